"""The commands `query` and `archive`: SQL over all days, and looking after the archive."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from txwatch.clock import utc_now
from txwatch.errors import UserError
from txwatch.foreign import clean
from txwatch.settings import Settings
from txwatch.store.database import connect

if TYPE_CHECKING:
    import pyarrow as pa

    from txwatch.archive.manifest import Archive
    from txwatch.archive.query import Answer

archive = typer.Typer(no_args_is_help=True, help="Days as Parquet, as TXWATCH_ARCHIVE says where.")
console = Console(highlight=False, markup=False)
notices = Console(stderr=True, highlight=False, markup=False)
SHOWN_ROWS = 200
INCOMPLETE = 3
"""Status of a query whose answer lacks days, or is cut."""


class Format(StrEnum):
    """How an answer is written."""

    table = "table"
    csv = "csv"
    parquet = "parquet"


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over transactions, features, scores and alerts.")],
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day to read, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day to read, UTC.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Only transactions that spend from this address or pay to it.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Parquet needs --output.")] = Format.table,
    output: Annotated[Path | None, typer.Option(help="A new file for the answer.")] = None,
    seconds: Annotated[float, typer.Option(help="Most time that it may take.", min=0.1)] = 60.0,
    memory_mb: Annotated[int, typer.Option(help="Most memory of the query.", min=64)] = 512,
    rows: Annotated[int | None, typer.Option(help="Most rows of the answer.", min=1)] = None,
) -> None:
    """Answer SQL over all days, those in the database and those in the archive.

    Amounts are satoshi, times UTC. Days that cannot be read are named; then, and if there are more rows than may be
    told, the command ends with 3.
    """
    from txwatch.archive.bounded import Limits, bounded_memory, end_process, tidied
    from txwatch.archive.manifest import archive_of
    from txwatch.archive.query import ask

    if form is Format.parquet and output is None:
        raise UserError("--format parquet needs --output FILE.")
    if output is not None and output.exists():
        raise UserError(f"{output} is there already; an answer does not write over another file.")
    settings = Settings()
    most = rows or (SHOWN_ROWS if form is Format.table and output is None else Limits.rows)
    limits = Limits(seconds=seconds, memory_mb=memory_mb, rows=most)

    # Only a whole answer gets the name that was asked for.
    draft = None if output is None else output.with_name(f"{output.name}.{os.getpid()}.part")

    def tidy() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if draft is not None:
            draft.unlink(missing_ok=True)

    def overrun(why: str) -> None:
        tidy()
        end_process(why)

    with (
        tempfile.TemporaryDirectory(prefix="txwatch-query-") as folder,
        tidied(tidy),
        bounded_memory(memory_mb),
        ask(
            settings.require_database_url(),
            archive_of(settings),
            sql,
            since=since.date() if since else None,
            until=until.date() if until else None,
            address=address,
            limits=limits,
            overrun=overrun,
            folder=folder,
        ) as answer,
    ):
        for note in answer.notes:
            notices.print(note, soft_wrap=True)
        _write(answer, form, output, draft)
        if answer.cut:
            notices.print(f"There are more rows than the {most:,} that are told: see --rows.", soft_wrap=True)
    raise typer.Exit(INCOMPLETE if answer.notes or answer.cut else 0)


def _write(answer: "Answer", form: Format, output: Path | None, draft: Path | None) -> None:
    if form is Format.table:
        table = Table(*map(clean, answer.schema.names))
        for row in _rows(answer):
            table.add_row(*("" if value is None else clean(str(value)) for value in row.values()))
        if output is None:
            console.print(table)
        else:
            with output.open("x") as file:
                Console(file=file, width=240, markup=False, highlight=False).print(table)
        return
    if draft is not None:
        draft.touch(exist_ok=False)
    try:
        if form is Format.parquet and draft is not None:
            from pyarrow.parquet import ParquetWriter

            with ParquetWriter(draft, answer.schema, compression="zstd") as writer:
                for batch in answer.batches:
                    writer.write_batch(batch)
        else:
            _write_csv(answer, draft)
        if draft is not None and output is not None:
            draft.replace(output)
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _write_csv(answer: "Answer", file: Path | None) -> None:
    """As CSV; lists as JSON, null as nothing."""
    import csv
    import sys

    with file.open("w", newline="") if file else nullcontext(sys.stdout) as target:
        writer = csv.writer(target)
        writer.writerow(answer.schema.names)
        for row in _rows(answer):
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, list | dict) else value


def _rows(answer: "Answer") -> Iterator[dict[str, Any]]:
    batch: pa.RecordBatch
    for batch in answer.batches:
        yield from batch.to_pylist()


def _archive() -> "Archive":
    from txwatch.archive.manifest import archive_of

    found = archive_of(Settings())
    if found is None:
        raise UserError("TXWATCH_ARCHIVE is not set: there is no archive.")
    return found


@archive.command()
def days() -> None:
    """The days of the archive: rows, size, and whether the database has its rows too."""
    from txwatch.archive.days import read_days

    with connect(Settings().require_database_url(), application="txwatch archive") as connection:
        table = Table("day", "dataset", "rows", "MB", "state")
        for one in read_days(connection):
            if one.manifest is not None:
                state = one.broken or (
                    "to be written again" if not one.complete else "archive only" if one.alone else ""
                )
                size = f"{one.manifest.bytes / 1e6:.1f}"
                table.add_row(str(one.day), one.dataset, f"{one.manifest.rows:,}", size, state)
    console.print(table)


@archive.command()
def check() -> None:
    """Read every file of the archive whole, and name those that are missing or damaged. Ends with 1 for any."""
    import sys

    from txwatch.archive.upkeep import check_files

    broken = 0
    with connect(Settings().require_database_url(), application="txwatch archive") as connection:
        for _, fault in check_files(connection, _archive(), utc_now(), most_bytes=sys.maxsize):
            if fault is not None:
                broken += 1
                console.print(fault, soft_wrap=True)
    console.print("Every file is as it was written." if not broken else f"{broken} files are broken.")
    raise typer.Exit(1 if broken else 0)


@archive.command()
def adopt() -> None:
    """Take days into account that another database wrote into the archive, such as before a restore."""
    from txwatch.archive.upkeep import adopt as adopt_days

    with connect(Settings().require_database_url(), application="txwatch archive") as connection:
        adopted = adopt_days(connection, _archive(), utc_now())
    console.print(f"{len(adopted)} files of {len({day for _, day in adopted})} days were not known here.")
