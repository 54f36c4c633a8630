"""What was measured last: kept in measurements.json, shown in docs/measurements.md, and named on other pages.

`python -m benchmarks.record` writes the pages again from what is kept. Where another page states a figure, it stands
between `<!-- its_name -->` and `<!-- / -->`, so that a new measurement is stated everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec

from benchmarks.harness import PROJECT, Measurement, number
from txwatch.clock import utc_now

KEPT = Path(__file__).with_name("measurements.json")
PAGE = PROJECT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"
STATED = re.compile(r"<!-- (?P<name>\w+) -->[^<]*<!-- / -->")
UNITLESS = ("ratio", "share")


class Record(msgspec.Struct):
    """The figures of one module of this package, in their order, and the day (UTC) on which they were measured."""

    on: date
    figures: list[Measurement]


Records = dict[str, Record]
"""By the module's name."""


def read() -> Records:
    """What is kept."""
    return msgspec.json.decode(KEPT.read_bytes(), type=Records) if KEPT.exists() else {}


def keep(measured: Mapping[str, Sequence[Measurement]]) -> None:
    """Keep these figures in the place of the same modules' before, and write the page."""
    records = read() | {name: Record(utc_now().date(), list(figures)) for name, figures in measured.items()}
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(records, order="sorted"), indent=1) + b"\n")
    write(records)


def write(records: Records) -> None:
    """Write the proof page, and the figures on all others."""
    PAGE.write_text(in_page(PAGE.read_text(), records))
    for page in stating_pages():
        page.write_text(with_figures(page.read_text(), records))


def stating_pages() -> list[Path]:
    """The pages that may state a figure of the proof page."""
    return [PROJECT / "README.md", *sorted(page for page in PAGE.parent.rglob("*.md") if page != PAGE)]


def with_figures(text: str, records: Records) -> str:
    """The text with each figure as it was measured last. Raises KeyError for a name that nothing measures."""
    figures = {figure.name: figure for record in records.values() for figure in record.figures}

    def stated(found: re.Match[str]) -> str:
        figure = figures[found["name"]]
        unit = "" if figure.unit in UNITLESS else f" {figure.unit}"
        return f"<!-- {figure.name} -->{number(figure.value)}{unit}<!-- / -->"

    return STATED.sub(stated, text)


def in_page(page: str, records: Records) -> str:
    """The page with its tables written again."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(_table(name, record) for name, record in sorted(records.items()))
    return f"{before}{BEGIN}{tables}{END}{after}"


def _table(name: str, record: Record) -> str:
    rows = "".join(_row(figure) for figure in record.figures)
    return (
        f"### `python -m benchmarks {name}`\n\nMeasured on {record.on}.\n\n"
        "| figure | value | × baseline | × limit | goal | | what was compared |\n"
        f"| --- | ---: | ---: | ---: | --- | --- | --- |\n{rows}"
    )


def _row(m: Measurement) -> str:
    verdict = ("met" if m.met else "**missed**") if m.goal else ""
    value = f"{number(m.value)} {m.unit}"
    return f"| {m.name} | {value} | {m.over_baseline} | {m.over_limit} | {m.goal} | {verdict} | {m.why} |\n"


if __name__ == "__main__":
    write(read())
