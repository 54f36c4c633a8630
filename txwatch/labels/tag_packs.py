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


def read_tag_pack(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a TagPack; tags of other currencies are counted and left out. Raises LabelFileError.

    The entity is the tag's `actor`, which names the same one in all TagPacks, else its label.
    """
    head, tags = _parsed(path)
    read = LabelFile(path)
    for number, tag in enumerate(tags, start=1):
        where = f"{path}, tag {number}"
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
        read.add(label, f"tag {number}")
    return read


def _parsed(path: Path) -> tuple[dict[str, Any], list[Any]]:
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's is ten times as fast, where it is built in
    try:
        # The base loader leaves every scalar a text: an address must not become a number.
        pack = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=loader)  # noqa: S506 - it makes no objects
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        raise LabelFileError(f"{path}{line}: no YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(pack, dict) or not isinstance(pack.get("tags"), list):
        raise LabelFileError(f"{path}: a TagPack has a list named tags; this has none.")
    head = {name: value for name, value in pack.items() if name not in {"tags", "title", "description"}}
    return head, pack["tags"]


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
