"""Read labels from files: GraphSense TagPacks (YAML), and CSV with the columns address, entity and source.

A CSV may have category, confidence and note too. Empty lines and lines that begin with # are left out. The format of
TagPacks is that of https://github.com/graphsense/graphsense-tagpack-tool.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from txwatch.errors import UserError
from txwatch.foreign import clean
from txwatch.labels.label import UNKNOWN, Label
from txwatch.wire.addresses import AddressError, bitcoin_address

CATEGORY_OF_FILE: Mapping[str, str] = {
    "exchange": "exchange",
    "mining-pool": "miner",
    "mixer": "mixing_service",
    "mixing": "mixing_service",
    "ofac": "sanction",
    "ransomware": "ransomware",
}
"""The category of a CSV that does not say one, by how its name begins."""


class LabelFileError(UserError):
    """A file that does not hold labels, with the line or tag at fault."""


MOST_CHARACTERS = {"source": 500, "entity": 200, "category": 100, "confidence": 100, "note": 1_000}
"""Characters of a label's texts. The database's indexes take no longer source or entity."""


@dataclass
class LabelFile:
    """What a file holds. `skipped` labels are of other currencies.

    `strange` says where no Bitcoin address stands: official lists have such places, and some were copied wrongly.
    """

    path: Path
    labels: list[Label] = field(default_factory=list)
    skipped: int = 0
    strange: list[str] = field(default_factory=list)

    def add(self, label: Label, place: str) -> None:
        """Add a label, if it is of a Bitcoin address. `place` is its line. Raises LabelFileError."""
        for name, most in MOST_CHARACTERS.items():
            text = getattr(label, name)
            if len(text) > most:
                said = f"its {name} has {len(text):,} characters, more than {most:,}"
                raise LabelFileError(f"{self.path}, {place}: {said}.")
            if "\0" in text:
                raise LabelFileError(f"{self.path}, {place}: its {name} holds the character NUL.")
        texts = {name: clean(getattr(label, name)) for name in MOST_CHARACTERS}
        try:
            self.labels.append(msgspec.structs.replace(label, address=bitcoin_address(label.address), **texts))
        except AddressError as error:
            self.strange.append(f"{self.path}, {place}: {error}")


def read_labels(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a TagPack (`.yaml`, `.yml`) or a CSV (`.csv`). `category` is for those that do not say theirs.

    Raises LabelFileError.
    """
    reader = {".yaml": read_tag_pack, ".yml": read_tag_pack, ".csv": read_csv}.get(path.suffix.lower())
    if reader is None:
        raise LabelFileError(f"{path}: name a TagPack (.yaml) or a CSV (.csv); this is neither.")
    if not path.is_file():
        raise LabelFileError(f"{path}: there is no such file.")
    try:
        return reader(path, category)
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            at = next(n for n, line in enumerate(file, start=1) if "\ufffd" in line.decode(errors="replace"))
        raise LabelFileError(f"{path}, line {at}: it is no UTF-8.") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor a comment, with their numbers from 1."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield number, line


REQUIRED = ("address", "entity", "source")
NAMES = ", ".join(REQUIRED)
OPTIONAL = ("category", "confidence", "note")


def read_csv(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a file. The category is its column's, else the given one, else what the file's name says.

    Raises LabelFileError with the line at fault.
    """
    by_name = (named for begin, named in CATEGORY_OF_FILE.items() if path.stem.lower().startswith(begin))
    fallback = category or next(by_name, UNKNOWN)
    read = LabelFile(path)
    columns: list[str] | None = None
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
        except csv.Error as error:
            # A NUL, or a cell of more than csv.field_size_limit() characters.
            raise LabelFileError(f"{where}: no CSV: {error}.") from error
        if columns is None:
            columns = [cell.lower() for cell in cells]
            if missing := [name for name in REQUIRED if name not in columns]:
                raise LabelFileError(f"{where}: it must name the columns {NAMES}; {', '.join(missing)} is missing.")
            if unknown := [name for name in columns if name not in REQUIRED + OPTIONAL]:
                raise LabelFileError(f"{where}: no column is named {unknown[0]!r}.")
            continue
        if len(cells) != len(columns):
            raise LabelFileError(f"{where}: {len(cells)} cells, where {len(columns)} columns are named.")
        row = dict(zip(columns, cells, strict=True))
        if empty := [name for name in REQUIRED if not row[name]]:
            raise LabelFileError(f"{where}: {empty[0]} is empty.")
        given = {"category": fallback} | {name: cell for name, cell in row.items() if cell}
        read.add(msgspec.convert(given, Label), f"line {number}")
    if columns is None:
        raise LabelFileError(f"{path}: it is empty; the first line must name the columns {NAMES}.")
    return read


BITCOIN = "BTC"
MAX_DEPTH = 20
"""Levels of nesting. TagPacks have two or three."""


def read_tag_pack(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a TagPack; tags of other currencies are counted and left out. Raises LabelFileError.

    The entity is the tag's `actor`, which names the same one in all TagPacks, else its label.
    """
    head, tags = _head_and_tags(path)
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


def _head_and_tags(path: Path) -> tuple[dict[str, Any], list[tuple[int, Any]]]:
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

    Every scalar stays a text: an address must not become a number. PyYAML's own constructor recurses into what is
    nested, and deep nesting would end the process: this one follows the events.
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
