"""SQL over hot and cold days as one: DuckDB reads the archive's files, and from Postgres what no file holds yet.

A day whose file is complete is read from the file alone, every other day from Postgres, in one snapshot. So each row is
told once, wherever it is; of a day that is in both in part, the database's row counts. The SQL reads these tables and
nothing else: no file, no network, no setting.
"""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from psycopg import sql

from txwatch.archive.bounded import Limits, QueryError, TimeLeft, timed, too_long
from txwatch.archive.datasets import ALERTS, ARCHIVED, TRANSACTIONS, Dataset
from txwatch.archive.days import ArchivedDay, day_span, read_days
from txwatch.archive.look_up import LISTS, TooSlowError, transactions_of, with_address
from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.archive.reading import local_file
from txwatch.archive.stored import stored_rows
from txwatch.store.database import Connection, connect, scalar

TABLES = {**ARCHIVED, ALERTS.name: ALERTS}
"""What SQL can name."""
ROW_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
"""Functions that SQL can select from. Others tell of files, of settings and of what DuckDB does."""
SETTINGS = frozenset({"current_setting", "getenv", "getvariable"})
"""Functions that SQL cannot call."""
Span = tuple[datetime | None, datetime | None]
"""From a moment until before another; None is without bound."""
_BATCH_ROWS = 2_048
"""Rows of an answer that are made at once, as many as DuckDB works on at once: each may be large."""
MAX_SQL = 10_000
"""Characters of a query. The parser cannot be interrupted, and takes minutes for one that is nested without end."""


@dataclass
class Answer:
    """The answer of a query. `notes` name days that are missing; `cut`: there was more than the limits allow."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    notes: list[str]
    cut: bool = field(default=False)


@contextmanager
def ask(
    database_url: str,
    archive: Archive | None,
    query: str,
    *,
    since: date | None = None,
    until: date | None = None,
    address: str | None = None,
    limits: Limits | None = None,
    folder: str | None = None,
    overrun: Callable[[str], None] = lambda _: None,
) -> Iterator[Answer]:
    """Answer one SELECT over the days from `since` to `until`, both included. Raises QueryError and psycopg.Error.

    With an `address`, `transactions` are those that spend from it or pay to it. Temporary files are made in `folder`.
    `overrun` is called from another thread, with the reason, when DuckDB does not end although its time is over.
    """
    limits = limits or Limits()
    with (
        tempfile.TemporaryDirectory(prefix="txwatch-query-", dir=folder) as temporary,
        _engine(Path(temporary), limits) as engine,
        connect(database_url, application="txwatch query") as connection,
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot = Snapshot(database_url, scalar(connection, "SELECT pg_export_snapshot()"), limits.seconds)
        notes: list[str] = []
        files: list[Path] = []
        for name in named_tables(engine, query):
            parts = _parts(connection, archive, TABLES[name], since, until)
            notes += parts.notes
            files += [*_all(parts.files), *_all(parts.overlapping)]
            of = address if name == TRANSACTIONS.name else None
            _make_view(engine, TABLES[name], parts, StoredRows(TABLES[name], parts.hot, snapshot, of), of, limits)
        _close(engine, files)
        time_left = TimeLeft(engine, limits, overrun)
        try:
            with time_left.running():
                reader = engine.sql(query).to_arrow_reader(_BATCH_ROWS)
            answer = Answer(reader.schema, iter(()), notes)
            answer.batches = _bounded(timed(reader, time_left), answer, limits)
            yield answer
        except (duckdb.Error, pa.ArrowException) as error:
            # Whichever of the two comes first: DuckDB is interrupted, or PostgreSQL ends a statement of its own.
            if "INTERRUPT" in str(error) or "due to statement timeout" in str(error):
                raise QueryError(too_long(limits)) from None
            raise QueryError(str(error)) from None


@contextmanager
def _engine(folder: Path, limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    engine = duckdb.connect(
        config={
            "memory_limit": f"{limits.memory_mb}MiB",
            "temp_directory": str(folder),
            "max_temp_directory_size": f"{limits.temporary_mb}MiB",
            "threads": limits.threads,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )
    try:
        engine.execute("SET TimeZone = 'UTC'")
        yield engine
    finally:
        engine.close()


def named_tables(engine: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """The tables of ours that a query names. Raises QueryError if it is not one SELECT."""
    if len(query) > MAX_SQL:
        raise QueryError(f"A query has at most {MAX_SQL:,} characters.")
    try:
        parsed = json.loads(engine.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])
    except RecursionError:
        raise QueryError("This query is nested too deeply.") from None
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
    if parsed["error"]:
        raise QueryError(f"This is no query: {parsed['error_message']}")
    if len(parsed["statements"]) != 1:
        raise QueryError("One query at a time can be answered.")
    nodes = list(_nodes(parsed))
    named = {str(node["table_name"]).lower() for node in nodes if node.get("type") == "BASE_TABLE"}
    own = {str(one["key"]).lower() for node in nodes for one in node.get("cte_map", {}).get("map", ())}
    called = {str(node["function_name"]).lower() for node in nodes if "function_name" in node}
    rows = {str(node["function"]["function_name"]).lower() for node in nodes if node.get("type") == "TABLE_FUNCTION"}
    if others := [*sorted(named - own - TABLES.keys()), *sorted(rows - ROW_FUNCTIONS | called & SETTINGS)]:
        raise QueryError(f"{others[0]!r} is none of {', '.join(TABLES)}, and nothing else is read.")
    return [name for name in TABLES if name in named]


def _nodes(parsed: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a parsed query."""
    waiting = [parsed]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


Files = Mapping[int, list[Path]]
"""Files by their format: those of one have the same columns."""


@dataclass(frozen=True)
class Parts:
    """Where the rows of a dataset are: in complete `files`, and in Postgres for these spans.

    Those of `overlapping` files are in both, and the database's count. `notes` name files that cannot be read.
    """

    files: Files
    overlapping: Files
    hot: list[Span]
    notes: list[str]


def _parts(
    connection: Connection, archive: Archive | None, dataset: Dataset, since: date | None, until: date | None
) -> Parts:
    parts = Parts(defaultdict(list), defaultdict(list), [], [])
    complete = []
    for one in read_days(connection, dataset) if archive is not None and dataset.name in ARCHIVED else []:
        within = (since is None or one.day >= since) and (until is None or one.day <= until)
        if not within or one.manifest is None or not (one.complete or one.alone):
            continue
        try:
            file = _sound(archive, dataset, one)
        except ArchiveError as error:
            instead = "its rows are missing" if one.alone else "its rows come from the database"
            parts.notes.append(f"{error}: {instead}.")
            continue
        (parts.files if one.complete else parts.overlapping)[one.manifest.format].append(file)
        complete += [one.day] if one.complete else []
    parts.hot.extend(_other_spans(complete, since, until))
    return parts


def _sound(archive: Archive | None, dataset: Dataset, day: ArchivedDay) -> Path:
    assert archive is not None  # noqa: S101 - for the type checker
    assert day.manifest is not None  # noqa: S101
    return local_file(archive, dataset, day.manifest)


def _other_spans(complete: Sequence[date], since: date | None, until: date | None) -> Iterator[Span]:
    """The spans of time from the beginning of `since` to the end of `until` that none of these days covers."""
    start = datetime.combine(since, time(), UTC) if since else None
    end = datetime.combine(until + timedelta(days=1), time(), UTC) if until else None
    for day in sorted(complete):
        first, after = day_span(day)
        if start is None or start < first:
            yield start, first
        start = after
    if start is None or end is None or start < end:
        yield start, end


@dataclass(frozen=True)
class Snapshot:
    """What the database holds at one moment, for several connections."""

    database_url: str
    name: str
    seconds: float

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection that sees it."""
        with connect(self.database_url, application="txwatch query") as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.name)))
            connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{self.seconds * 1_000:.0f}ms"])
            yield connection


class StoredRows(ds.Dataset):  # type: ignore[misc]
    """Rows of Postgres as a dataset of Arrow, of which DuckDB asks for the columns and the rows that it needs."""

    def __init__(self, dataset: Dataset, spans: Sequence[Span], snapshot: Snapshot, address: str | None):
        # The base class has a constructor that refuses: a dataset of Arrow's own is made of files.
        self._dataset, self._spans, self._snapshot, self._address = dataset, spans, snapshot, address

    @property
    def schema(self) -> pa.Schema:
        """Of all columns."""
        return self._dataset.schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> ds.Scanner:  # noqa: A002
        """What DuckDB calls. The filter is applied to what comes; of Postgres only the columns are chosen."""
        wanted = self._wanted(columns, filter)
        batches = self._batches(wanted.names)
        return ds.Scanner.from_batches(batches, schema=wanted, columns=columns, filter=filter, use_threads=False)

    def _wanted(self, columns: Sequence[str] | None, condition: Any) -> pa.Schema:
        """The columns to read: those of the condition too, which only its text names."""
        if columns is None:
            return self.schema
        in_condition = set(re.findall(r"\w+", str(condition))) if condition is not None else set()
        of_address = LISTS if self._address is not None else ()
        return self._dataset.columns([*columns, *in_condition, *of_address, "seen_at"])

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start, end in self._spans:
            with self._snapshot.open() as connection:
                for table in stored_rows(connection, self._dataset, start, end, columns):
                    of_it = table if self._address is None else with_address(table, self._address)
                    yield from of_it.to_batches()


def _make_view(
    engine: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    parts: Parts,
    stored: StoredRows,
    address: str | None,
    limits: Limits,
) -> None:
    """Make the table that the SQL names."""
    name = dataset.name
    here, cold, both = f"stored_{name}", _of_files(parts.files), _of_files(parts.overlapping)
    engine.register(here, stored)
    if address is not None:
        try:
            for found, files in (("found_cold", parts.files), ("found_in_both", parts.overlapping)):
                engine.register(found, transactions_of(_all(files), address, limits.seconds))
        except TooSlowError:
            raise QueryError(too_long(limits)) from None
        cold, both = "found_cold", "found_in_both"
    selects = [f"SELECT * FROM {here}"]  # noqa: S608 - names of ours, and quoted ones
    if parts.files:
        selects.append(f"SELECT * FROM {cold}")  # noqa: S608
    if parts.overlapping:
        same = " AND ".join(f"here.{column} = there.{column}" for column in dataset.key)
        known = f"SELECT 1 FROM {here} AS here WHERE {same}"  # noqa: S608
        selects.append(f"SELECT * FROM {both} AS there WHERE NOT EXISTS ({known})")  # noqa: S608
    engine.execute(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(selects)}")


def _of_files(files: Files) -> str:
    """The newest format's columns; what files of an older one lack is null.

    Only formats are compared by name: DuckDB would else look at each file before it looks at any.
    """
    ordered = sorted(files, reverse=True)
    of_each = (f"SELECT * FROM read_parquet({_literals(files[number])})" for number in ordered)  # noqa: S608
    return f"({' UNION ALL BY NAME '.join(of_each)})"


def _all(files: Files) -> list[Path]:
    return [file for number in sorted(files, reverse=True) for file in files[number]]


def _literals(files: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + str(file).replace("'", "''") + "'" for file in files) + "]"


def _close(engine: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Leave nothing open to the SQL but these files."""
    engine.execute(f"SET allowed_paths = {_literals(files)}")
    engine.execute("SET enable_external_access = false")
    engine.execute("SET lock_configuration = true")


def _bounded(batches: Iterable[pa.RecordBatch], answer: Answer, limits: Limits) -> Iterator[pa.RecordBatch]:
    """The batches of an answer, up to its limits."""
    rows = size = 0
    for batch in batches:
        if rows + batch.num_rows > limits.rows or size + batch.nbytes > limits.bytes:
            answer.cut = True
            fit = (limits.bytes - size) * batch.num_rows // max(1, batch.nbytes)
            yield batch.slice(0, max(0, min(limits.rows - rows, fit)))
            return
        rows += batch.num_rows
        size += batch.nbytes
        yield batch
