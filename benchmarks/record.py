"""What was measured last: kept in measurements.json, and shown in docs/measurements.md.

`python -m benchmarks.record` writes the page again from what is kept.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec

from benchmarks.harness import PROJECT, Measurement, number
from txwatch.clock import utc_now

KEPT = Path(__file__).with_name("measurements.json")
PAGE = PROJECT / "docs" / "measurements.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"


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
    PAGE.write_text(in_page(PAGE.read_text(), records))


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
    PAGE.write_text(in_page(PAGE.read_text(), read()))
