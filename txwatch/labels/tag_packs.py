"""GraphSense TagPacks: YAML files of tags, whose fields a tag inherits from the head of the file.

See https://github.com/graphsense/graphsense-tagpack-tool for the format.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from txwatch.labels.files import LabelFile, LabelFileError
from txwatch.labels.label import UNKNOWN, Label

BITCOIN = "BTC"
MAX_DEPTH = 20
"""TagPacks are two or three deep."""


def read_tag_pack(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a TagPack; tags of other currencies are counted and left out. Raises LabelFileError.

    The entity is the tag's `actor`, which names the same one in all TagPacks, else its label.
    """
    head, tags = _parsed(path)
    read = LabelFile(path)
    for number, (line, tag) in enumerate(tags, start=1):
        place = f"line {line}, tag {number}"
        where = f"{path}, {place}"
        if not isinstance(tag, dict):
            raise LabelFileError(f"{where}: it is no mapping of fields.")
        fields = {name: value for name, value in (head | tag).items() if value != ""}
        if _text(fields, "currency", where, _text(fields, "network", where, BITCOIN)).upper() != BITCOIN:
            read.skipped += 1
            continue
        for name in ("address", "label", "source"):
            if name not in fields:
                raise LabelFileError(f"{where}: it has no {name}, and neither has the head of the file.")
        text = _text(fields, "label", where)
        label = Label(
            _text(fields, "address", where),
            _text(fields, "source", where),
            _text(fields, "actor", where, text),
            _text(fields, "category", where, category or UNKNOWN),
            _text(fields, "confidence", where, UNKNOWN),
            text,
            _day(fields, where),
        )
        read.add(label, place)
    return read


def _parsed(path: Path) -> tuple[dict[str, Any], list[tuple[int, Any]]]:
    """The head of the file, and its tags, each with its line."""
    text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise LabelFileError(f"{path}, line {_line_of(text, text.index(chr(0)))}: it holds the character NUL.")
    pack, lines = _tree(path, text)
    if not isinstance(pack, dict) or not isinstance(pack.get("tags"), list):
        raise LabelFileError(f"{path}: a TagPack has a list named tags; this has none.")
    head = {name: value for name, value in pack.items() if name not in {"tags", "title", "description"}}
    return head, list(zip(lines[id(pack["tags"])], pack["tags"], strict=True))


def _line_of(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _tree(path: Path, text: str) -> tuple[Any, dict[int, list[int]]]:
    """A YAML document as dicts, lists and texts, and the lines of the items of each list, by the list's `id`.

    Every scalar stays a text: an address must not become a number. Built from events and not by PyYAML's constructor,
    which recurses into what is nested: deep enough, that ends the process.
    """
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's is ten times as fast, where it is built in
    root: Any = None
    open_nodes: list[Any] = []
    keys: list[str | None] = []
    anchors: dict[str, Any] = {}
    lines: dict[int, list[int]] = {}
    try:
        for event in yaml.parse(text, Loader=loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.CollectionEndEvent):
                open_nodes.pop()
                keys.pop()
                continue
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise LabelFileError(f"{path}, line {line}: a second document begins; a TagPack is one.")
            if not isinstance(event, yaml.NodeEvent):
                continue
            if isinstance(event, yaml.AliasEvent):
                name = event.anchor or ""
                if name not in anchors:
                    raise LabelFileError(f"{path}, line {line}: no YAML: nothing before is named {name[:100]!r}.")
                node = anchors[name]
            else:
                node = {} if isinstance(event, yaml.MappingStartEvent) else []
                node = event.value if isinstance(event, yaml.ScalarEvent) else node
                if event.anchor:
                    anchors[event.anchor] = node
            if not open_nodes:
                root = node
            elif isinstance(open_nodes[-1], list):
                open_nodes[-1].append(node)
                lines[id(open_nodes[-1])].append(line)
            elif keys[-1] is not None:
                open_nodes[-1][keys[-1]], keys[-1] = node, None
            elif isinstance(node, str):
                keys[-1] = node
            else:
                raise LabelFileError(f"{path}, line {line}: the name of a field is a list or a mapping.")
            if isinstance(event, yaml.CollectionStartEvent):
                if len(open_nodes) == MAX_DEPTH:
                    raise LabelFileError(f"{path}, line {line}: it is nested more than {MAX_DEPTH} deep.")
                open_nodes.append(node)
                keys.append(None)
                lines.setdefault(id(node), [])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else _line_of(text, getattr(error, "position", 0))
        raise LabelFileError(f"{path}, line {line}: no YAML: {getattr(error, 'problem', error)}.") from error
    return root, lines


def _text(fields: Mapping[str, Any], name: str, where: str, default: str = "") -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise LabelFileError(f"{where}: {name} is a list or a mapping, where a text is wanted.")
    return value.strip()


def _day(fields: Mapping[str, Any], where: str) -> date | None:
    text = _text(fields, "lastmod", where)
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise LabelFileError(f"{where}: lastmod is {text!r}, which is no day such as 2022-11-16.") from error
