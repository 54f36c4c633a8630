"""A document becomes a Rule, or every error in it is said, each with its place and the nearest right word.

A comparison is one line of text: `moved_sat >= 500 BTC`, `fee_sat between 1,000 USD and 1 BTC`,
`kind in whale, forest`, `receiver matches label category exchange`.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from txwatch.detection.kinds import Severity
from txwatch.rules.document import MOST_FAULTS, Fault, Placed, RuleError
from txwatch.rules.rule import (
    ALERTS_PER_HOUR,
    CHANNEL,
    MODES,
    MOST_ALERTS_PER_HOUR,
    NAME,
    AllOf,
    AnyOf,
    Flows,
    Found,
    Labelled,
    Leaf,
    Mode,
    Not,
    Number,
    Party,
    Rule,
    ToldBy,
    Tree,
    leaves,
)
from txwatch.rules.terms import (
    FEATURE_UNITS,
    LABELS_BY,
    SETS,
    Quantity,
    TermError,
    known_term,
    member,
    nearest,
    next_to,
    quantity,
)

FIELDS = ("name", "text", "severity", "mode", "channels", "alerts_per_hour", "one_alert_within", "when")
REQUIRED = ("name", "text", "severity", "when")
MOST_TEXT = 200
"""Characters of a rule's text, and of one comparison."""
MOST_COMPARISONS = 100
MOST_CHANNELS = 20
OPERATORS = (">=", "<=", "!=", "=", ">", "<", "between", "in")
_TURNED = ("=>", "=<", "=!")
_GROUPS = ("all", "any", "not")
_LEAF = re.compile(r"([A-Za-z]\w*)\s*([<>=!]+|between\b|in\b|matches\s+label\b)?\s*(.*)", re.DOTALL)
_CAP = re.compile(r"[0-9]{1,9}")
_WITHIN = re.compile(r"(\d{1,4})\s*(min|h)")
T = TypeVar("T")
Name = TypeVar("Name", bound=str)


def parse_rule(document: Placed, version: int = 0) -> Rule:
    """The rule in a document. Raises RuleError, which names everything that is wrong in it."""
    return _Reading().rule(document, version)


class _Reading:
    """Reads on after each fault, so that one look shows all of them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def rule(self, document: Placed, version: int) -> Rule:
        if not isinstance(document.content, dict):
            named = ", ".join(f"`{field}:`" for field in REQUIRED)
            raise RuleError([document.fault(f"a rule has {named}, each in a line of its own")])
        given = document.content
        for field, value in given.items():
            if field not in FIELDS:
                meant = nearest(field[:60], FIELDS) or f": it has {', '.join(FIELDS)}"
                self.faults.append(value.fault(f"a rule has no `{field}`{meant}"))
        for field in REQUIRED:
            if field not in given:
                self.faults.append(document.fault(f"`{field}` is missing"))
        name = self._of(given, "name", _name, "")
        text = self._of(given, "text", _text, "")
        severity = self._of(given, "severity", _severity, Severity.low)
        mode: Mode = self._of(given, "mode", _mode, "off")
        cap = self._of(given, "alerts_per_hour", _cap, ALERTS_PER_HOUR)
        within = self._of(given, "one_alert_within", _within, None)
        channels = self._channels(given.get("channels"))
        when = self.tree(given["when"]) if "when" in given else None
        if when is not None and len(leaves(when)) > MOST_COMPARISONS:
            self.faults.append(given["when"].fault(f"a rule may have {MOST_COMPARISONS} comparisons"))
        if self.faults or when is None:
            raise RuleError(self.faults)
        return Rule(name, text, severity, when, mode, channels, cap, within, version)

    def _of(self, given: dict[str, Placed], field: str, read: Callable[[str], T], default: T) -> T:
        if field not in given:
            return default
        return self._read(given[field], read, default, f"`{field}` is a text")

    def _read(self, value: Placed, read: Callable[[str], T], default: T, wanted: str) -> T:
        try:
            if not isinstance(value.content, str):
                raise TermError(wanted)
            return read(value.content.strip())
        except TermError as error:
            self.faults.append(value.fault(str(error)))
            return default

    def _channels(self, given: Placed | None) -> tuple[str, ...]:
        if given is None:
            return ()
        if not isinstance(given.content, list) or len(given.content) > MOST_CHANNELS:
            self.faults.append(given.fault(f"`channels` is a list of at most {MOST_CHANNELS} names"))
            return ()
        return tuple(self._read(one, _channel, "", "a channel is a name") for one in given.content)

    def tree(self, value: Placed) -> Tree | None:
        """A part of `when`; None after a fault, or as many as are named."""
        if len(self.faults) >= MOST_FAULTS:
            return None
        if isinstance(value.content, str):
            return self._read(value, comparison, None, "")
        if isinstance(value.content, list):
            self.faults.append(value.fault("a list needs `all` or `any` before it"))
            return None
        if len(value.content) != 1:
            self.faults.append(value.fault("one of `all`, `any` and `not` is needed here, and nothing beside it"))
            return None
        [(group, inner)] = value.content.items()
        if group not in _GROUPS:
            # A comparison with a colon in it, such as a label's, is a mapping to YAML.
            meant = nearest(group, _GROUPS) or ": there are all, any and not; a comparison with a colon needs quotes"
            self.faults.append(inner.fault(f"`{group[:60]}` is no group{meant}"))
            return None
        if group == "not":
            part = self.tree(inner)
            return None if part is None else Not(part)
        if not isinstance(inner.content, list) or not inner.content:
            self.faults.append(inner.fault(f"`{group}` needs a list of comparisons, with `- ` before each"))
            return None
        parts = [self.tree(part) for part in inner.content]
        known = tuple(part for part in parts if part is not None)
        return AllOf(known) if group == "all" else AnyOf(known)


def comparison(text: str) -> Tree:
    """Read one comparison. Raises TermError."""
    if len(text) > MOST_TEXT:
        raise TermError(f"a comparison may have {MOST_TEXT} characters")
    match = _LEAF.fullmatch(text.strip())
    if match is None:
        raise TermError(f"`{text.strip()}` is no comparison: write such as `moved_sat >= 500 BTC`")
    if match[1] == "not":
        raise TermError(f"`not` is a group of its own: write `not: {text.strip()[3:].strip()}`")
    term, operator, rest = known_term(match[1]), match[2] or "", match[3].strip()
    operator = "=" if operator == "==" else operator
    if term in FEATURE_UNITS:
        return _numbers(term, operator, rest)
    if term in SETS:
        return _members(term, operator, rest)
    return _labelled(term, operator, rest)


def _numbers(feature: str, operator: str, rest: str) -> Tree:
    if operator not in OPERATORS:
        raise TermError(_no_operator(feature, operator, rest, OPERATORS))
    if operator == "between":
        bounds = re.split(r"\s+and\s+", rest)
        if len(bounds) != 2:
            raise TermError(f"`{feature} between` needs two bounds: write `between 1 and 2`, with their units")
        low, high = (quantity(feature, bound) for bound in bounds)
        if low.in_usd != high.in_usd:
            lower = Number(feature, low.value, math.inf, f">= {bounds[0]}", low.in_usd)
            return AllOf((lower, Number(feature, -math.inf, high.value, f"<= {bounds[1]}", high.in_usd)))
        if low.value > high.value:
            raise TermError(f"nothing lies between `{bounds[0]}` and the smaller `{bounds[1]}`")
        return Number(feature, low.value, high.value, f"between {bounds[0]} and {bounds[1]}", low.in_usd)
    if operator == "in":
        wanted = [(word, quantity(feature, word)) for word in _words(rest)]
        return AnyOf(tuple(_number(feature, "=", value, word) for word, value in wanted))
    value = quantity(feature, rest)
    if operator == "!=":
        # Of two halves, so that what is unknown is in neither.
        return AnyOf((_number(feature, "<", value, rest), _number(feature, ">", value, rest)))
    return _number(feature, operator, value, rest)


def _number(feature: str, operator: str, wanted: Quantity, text: str) -> Number:
    low, high = {
        ">=": (wanted.value, math.inf),
        ">": (next_to(feature, wanted.value, math.inf), math.inf),
        "<=": (-math.inf, wanted.value),
        "<": (-math.inf, next_to(feature, wanted.value, -math.inf)),
        "=": (wanted.value, wanted.value),
    }[operator]
    return Number(feature, low, high, f"{operator} {text}", wanted.in_usd)


def _members(term: str, operator: str, rest: str) -> Tree:
    if operator not in ("=", "!=", "in"):
        raise TermError(_no_operator(term, operator, rest, ("=", "!=", "in")))
    words = _words(rest) if operator == "in" else [rest]
    found: list[Tree] = [_member(term, member(term, word)) for word in words]
    tree = found[0] if len(found) == 1 else AnyOf(tuple(found))
    return Not(tree) if operator == "!=" else tree


def _member(term: str, value: str) -> Leaf:
    match term:
        case "kind":
            return Found(value)
        case "flow":
            return Flows(value)
    return ToldBy(value)


def _labelled(term: str, operator: str, rest: str) -> Tree:
    party: Party = "sender" if term == "sender" else "receiver" if term == "receiver" else "payer"
    if not operator.startswith("matches"):
        raise TermError(f"`{term}` is asked for its labels alone: write `{term} matches label category exchange`")
    word, _, pattern = rest.partition(" ")
    pattern = pattern.strip().strip("\"'").strip()
    match word:
        case "known" | "watched":
            if pattern:
                raise TermError(f"`{word}` stands alone: `{term} matches label {word}`")
            return Labelled(party, word)
        case "entity" | "category" | "source":
            small = pattern.casefold()
            if word == "entity":
                # As a label's entity is compared: `Crypto.com` and `crypto com` are one.
                small = "".join(c for c in small if c.isalnum() or c == "*")
            if not small:
                raise TermError(f"`{word}` needs a name: write such as `{term} matches label {word} exchange`")
            return Labelled(party, word, small.replace("[", "[[]").replace("?", "[?]"))
    meant = nearest(word, LABELS_BY) or (
        f": write such as `{term} matches label category {word}`; there are {', '.join(LABELS_BY)}"
    )
    raise TermError(f"a label has no `{word}`{meant}")


def _words(text: str) -> list[str]:
    """What stands between commas, in brackets or not. A comma of thousands has a digit on both sides, and no space."""
    if text.startswith("[") != text.endswith("]") or set(text) & set("()"):
        raise TermError(f"brackets of `{text}` do not fit: write the values with commas, and no brackets")
    words = [word.strip() for word in re.split(r",(?!\d{3}\b)", text.removeprefix("[").removesuffix("]"))]
    if not all(words):
        raise TermError("`in` needs values with commas between them")
    return words


def _no_operator(term: str, operator: str, rest: str, known: tuple[str, ...]) -> str:
    word = operator or (rest.split() or [""])[0]
    said = f"`{word[:40]}` after `{term}` is no comparison" if word else f"`{term}` is compared with nothing"
    meant = nearest("".join(sorted(word, reverse=True)), known) if word in _TURNED else nearest(word, known)
    return f"{said}{meant or ': there are ' + ' '.join(known)}"


def _name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise TermError(f"`{text[:60]}` is no name: small letters, digits, - and _, at most 48, such as `large-moves`")
    return text


def _channel(text: str) -> str:
    if CHANNEL.fullmatch(text) is None:
        raise TermError(f"`{text[:60]}` names no channel: it is the name of one, or the id of a chat")
    return text


def _text(text: str) -> str:
    text = " ".join(text.split())
    if not 0 < len(text) <= MOST_TEXT:
        raise TermError(f"`text` says in 1 to {MOST_TEXT} characters what was seen")
    return text


def _severity(text: str) -> Severity:
    return Severity[_one_of("severity", text, list(Severity.__members__))]


def _mode(text: str) -> Mode:
    return _one_of("mode", text, MODES)


def _one_of(what: str, text: str, names: Sequence[Name]) -> Name:
    for name in names:
        if name == text:
            return name
    raise TermError(f"there is no {what} `{text[:60]}`{nearest(text, names) or ': there are ' + ', '.join(names)}")


def _cap(text: str) -> int:
    if _CAP.fullmatch(text) is None or not 1 <= int(text) <= MOST_ALERTS_PER_HOUR:
        raise TermError(
            f"`alerts_per_hour` is a number from 1 to {MOST_ALERTS_PER_HOUR:,}; a rule of `mode: test` sends nothing"
        )
    return int(text)


def _within(text: str) -> timedelta | None:
    match = _WITHIN.fullmatch(text)
    length = match and timedelta(minutes=int(match[1]) * (60 if match[2] == "h" else 1))
    if not length or length > timedelta(days=1):
        raise TermError("`one_alert_within` is a time such as `30 min` or `1 h`, of a day at most")
    return length
