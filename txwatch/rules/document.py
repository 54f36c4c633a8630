"""The document of a rule, from YAML or from JSON: plain values that know their place, and errors that name it.

Every scalar is the text that was written, so that YAML makes no boolean of `off` and no number of a txid. Anchors and
tags are refused, and size and depth are bounded before anything is built.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import yaml

from txwatch.errors import UserError
from txwatch.foreign import clean, shortened
from txwatch.store.database import storable

MOST_BYTES = 65_536
MOST_DEPTH = 24
"""Mappings and lists within each other: `all` in `any` in `not` is three, and six with the lists."""
MOST_PARTS = 1_000
"""Texts, lists and mappings of one document. YAML of that size with more of them takes seconds to read."""
MOST_FAULTS = 20
"""That are named of one document."""


_MEANT = (
    ("flow sequence", True, "a `[` that is opened here has no `]`, or a comma is missing"),
    ("expected the node content", False, "a value is missing, or the `]` or `}` of what was opened"),
    ("flow mapping", True, "a `{` that is opened here has no `}`, or a comma is missing"),
    ("quoted scalar", True, "the quote that is opened here is not closed"),
    ("found character '\\t'", False, "there is a tab; indent by spaces"),
    ("that cannot start any token", False, "a text that begins with this sign needs quotes"),
    (
        "mapping values are not allowed",
        False,
        "a text with a colon needs quotes, the colon of a name a space",
    ),
    ("could not find expected ':'", True, "after a name comes a colon and a space"),
    ("block collection", False, "this line is not indented as the list above it"),
    ("block mapping", False, "this line is not indented as the names above it"),
)
"""Words of the library, whether the line is that where the broken part began, and what whoever wrote it has to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place. `path` is such as `when.all[1]`; `line` counts from 1, None where there is none."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        line = "" if self.line is None else f"line {self.line}"
        place = ", ".join(filter(None, (line, self.path)))
        return f"{place}: {self.message}" if place else self.message


class RuleError(UserError, ValueError):
    """A rule that cannot be, with everything that is wrong in it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        # What is repeated of a document is bounded as well.
        self.faults = tuple(replace(fault, message=shortened(fault.message)) for fault in faults[:MOST_FAULTS])
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True, slots=True)
class Placed:
    """A text, a list or a mapping, and where it stands."""

    content: "str | list[Placed] | dict[str, Placed]"
    path: str = ""
    line: int | None = None

    def fault(self, message: str) -> Fault:
        """What is wrong here."""
        return Fault(self.path, message, self.line)


Plain: TypeAlias = "str | list[Plain] | dict[str, Plain]"


def plain(placed: Placed) -> Plain:
    """The values alone, as they are kept in the database."""
    match placed.content:
        case str(text):
            return text
        case list(parts):
            return [plain(part) for part in parts]
        case parts:
            return {key: plain(part) for key, part in parts.items()}


def read_yaml(text: str) -> Placed:
    """The document in a text. Raises RuleError."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise RuleError([_too_long()])
    try:
        _check(yaml.parse(text, Loader=yaml.SafeLoader))
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise RuleError([_no_yaml(error)]) from error
    except RuleError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # of numbers that the library cannot read
        raise RuleError([Fault("", f"this is no YAML: {error}")]) from error
    if root is None:
        raise RuleError([Fault("", "there is no rule in this: it is empty")])
    return _from_node(root, "")


def read_plain(value: object) -> Placed:
    """The document in values as JSON has them. Raises RuleError."""
    try:
        size = len(json.dumps(value, default=str))
    except RecursionError:
        raise RuleError([_too_deep("", None)]) from None
    except ValueError:  # such as a number of more digits than Python writes
        raise RuleError([Fault("", "this is no JSON")]) from None
    if size > MOST_BYTES:
        raise RuleError([_too_long()])
    return _from_plain(value, "", 0)


def _no_yaml(error: yaml.MarkedYAMLError) -> Fault:
    """What is usually meant by an error of the library, at the line to look at: of what was begun, where it began."""
    problem = error.problem or error.context or ""
    line = None if error.problem_mark is None else error.problem_mark.line + 1
    began = line if error.context_mark is None else error.context_mark.line + 1
    for words, is_begun, meant in _MEANT:
        if words in f"{error.context}: {problem}":
            return Fault("", f"this is no YAML: {meant}", began if is_begun else line)
    return Fault("", f"this is no YAML: {problem}", line)


def _check(events: Iterable[Any]) -> None:
    """Raise RuleError for what is too deep, has too many parts, or parts that YAML alone has."""
    depth, documents, parts = 0, 0, 0
    for event in events:
        line = event.start_mark.line + 1
        parts += isinstance(event, yaml.NodeEvent)
        if parts > MOST_PARTS:
            raise RuleError([Fault("", f"a rule may have {MOST_PARTS:,} parts", line)])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MOST_DEPTH:
            raise RuleError([_too_deep("", line)])
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise RuleError([Fault("", "a rule has no anchors (& and *): a text that begins so needs quotes", line)])
        if getattr(event, "tag", None) is not None:
            raise RuleError([Fault("", "a rule has no tags (!): a text that begins so needs quotes", line)])
        if documents > 1:
            raise RuleError([Fault("", "there is a second document: a file holds one rule", line)])


def _from_node(node: yaml.Node, path: str) -> Placed:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.value, path, line)
    if isinstance(node, yaml.SequenceNode):
        return Placed([_from_node(part, f"{path}[{i}]") for i, part in enumerate(node.value)], path, line)
    parts: dict[str, Placed] = {}
    for key, value in node.value:
        key_line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise RuleError([Fault(path, "a name is a word, not a list", key_line)])
        _scalar(key.value, path, key_line)
        if key.value in parts:
            raise RuleError([Fault(path, f"`{key.value}` is there twice", key_line)])
        placed = _from_node(value, _below(path, key.value))
        # A list or a mapping is spoken of by the line of its name.
        line_of_part = placed.line if isinstance(placed.content, str) else key_line
        parts[key.value] = Placed(placed.content, placed.path, line_of_part)
    return Placed(parts, path, line)


def _from_plain(value: object, path: str, depth: int) -> Placed:
    if depth > MOST_DEPTH:
        raise RuleError([_too_deep(path, None)])
    if isinstance(value, Mapping):
        for key in value:
            _scalar(str(key), path, None)
        parts = {str(key): _from_plain(part, _below(path, str(key)), depth + 1) for key, part in value.items()}
        return Placed(parts, path)
    if isinstance(value, list | tuple):
        return Placed([_from_plain(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(value)], path)
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return _scalar(str(value), path, None)
    raise RuleError([Fault(path, "this is neither a text, a number, a list nor a mapping")])


def _scalar(text: str, path: str, line: int | None) -> Placed:
    if storable(text) != text or clean(text) != " ".join(text.split()):
        raise RuleError([Fault(path, "there is a character that no text can have", line)])
    return Placed(text, path, line)


def _below(path: str, key: str) -> str:
    key = key if len(key) <= 60 else f"{key[:59]}…"
    return f"{path}.{key}" if path else key


def _too_long() -> Fault:
    return Fault("", f"a rule may have {MOST_BYTES:,} bytes")


def _too_deep(path: str, line: int | None) -> Fault:
    return Fault(path, f"this is too deep: {MOST_DEPTH} lists and mappings within each other are the most", line)
