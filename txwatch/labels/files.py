"""Labels out of files: GraphSense TagPacks (YAML), and CSV with the columns address, entity and source.

Belongs here: what is the same for both. Nothing is imported of a file that cannot be read in full.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from txwatch.errors import UserError
from txwatch.labels.label import Label
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


MOST_CHARACTERS: Mapping[str, int] = {
    "source": 500,
    "entity": 200,
    "category": 100,
    "confidence": 100,
    "note": 1_000,
}
"""Of a label's texts. The database's indexes take no longer source or entity."""


@dataclass
class LabelFile:
    """What a file holds. `skipped` labels are of other currencies; `strange` says where no Bitcoin address stands.

    Such a place does not make a file unreadable: official lists have them, and some were copied wrongly.
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
        try:
            self.labels.append(msgspec.structs.replace(label, address=bitcoin_address(label.address)))
        except AddressError as error:
            self.strange.append(f"{self.path}, {place}: {error}")


def read_labels(path: Path, category: str | None = None) -> LabelFile:
    """The labels of a TagPack (`.yaml`, `.yml`) or a CSV (`.csv`). `category` is for those that do not say theirs.

    Raises LabelFileError.
    """
    from txwatch.labels.comma_separated import read_csv
    from txwatch.labels.tag_packs import read_tag_pack

    readers = {".yaml": read_tag_pack, ".yml": read_tag_pack, ".csv": read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LabelFileError(f"{path}: name a TagPack (.yaml) or a CSV (.csv); this is neither.")
    if not path.is_file():
        raise LabelFileError(f"{path}: there is no such file.")
    try:
        return reader(path, category)
    except UnicodeDecodeError as error:
        raise LabelFileError(f"{path}, line {_line_without_utf8(path)}: it is no UTF-8.") from error


def category_of(path: Path) -> str | None:
    """What the file's name says of its category."""
    return next((c for begin, c in CATEGORY_OF_FILE.items() if path.stem.lower().startswith(begin)), None)


def _line_without_utf8(path: Path) -> int:
    with path.open("rb") as file:
        return next(n for n, line in enumerate(file, start=1) if "\ufffd" in line.decode(errors="replace"))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor a comment, with their numbers from 1."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield number, line
