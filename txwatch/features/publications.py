"""Publications: the numbers by which a context knows which address buckets are part of it.

A context sums the buckets of publications up to its own number. So no number is given while a lower one is being
written, and what several connections write under one number counts once all of them have committed: until then a row of
`open_publications` names it. Whoever takes the next number first undoes what a process that died has left half written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from txwatch.store.database import Connection, commit_without_waiting, statement
from txwatch.store.locks import Lock, hold, wait_for


@dataclass(frozen=True)
class Publication:
    """A publication that is being written by several database transactions, which all read one snapshot."""

    number: int
    snapshot: str | None
    """Name of the snapshot, as `pg_export_snapshot` gives it. None if there is only one connection."""


def next_publication(connection: Connection) -> int:
    """The next number. Others wait for the end of the caller's transaction.

    Without the wait a context could sum buckets of a lower number which are not committed yet.
    """
    wait_for(connection, Lock.PUBLICATION)
    _undo_half_written(connection)
    [(publication,)] = connection.execute("SELECT nextval('context_publications')").fetchall()
    return int(publication)


@contextmanager
def publishing(
    connection: Connection, start: datetime, end: datetime, *, shared: bool, durable: bool
) -> Iterator[Publication]:
    """A publication of buckets of the windows in [start, end), for the block, in a database transaction of its own.

    Where it is `shared`, other connections may write under its number, in transactions of `part_of`, all of which must
    have ended with the block. It counts once this connection has committed. A commit that is not `durable` waits for no
    disk: it is lost only together with all later ones.
    """
    with hold(connection, Lock.PUBLICATION):
        with connection.transaction():
            commit_without_waiting(connection)
            number = next_publication(connection)
            if shared:
                connection.execute(
                    "INSERT INTO open_publications (publication, window_start, window_end) VALUES (%s, %s, %s)",
                    [number, start, end],
                )
        with connection.transaction():
            if not durable:
                commit_without_waiting(connection)
            yield Publication(number, _export_snapshot(connection) if shared else None)
            if shared:
                connection.execute("DELETE FROM open_publications WHERE publication = %s", [number])


@contextmanager
def part_of(connection: Connection, publication: Publication) -> Iterator[None]:
    """A database transaction of another connection that writes under the publication's number.

    Raises psycopg.Error once the publication's own connection is lost: the snapshot is gone then, and soon the row.
    """
    with connection.transaction():
        # Durable with the publication itself, which commits later.
        commit_without_waiting(connection)
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(publication.snapshot)))
        # Whoever undoes the publication waits for this row, and so for the end of this transaction.
        connection.execute("SELECT FROM open_publications WHERE publication = %s FOR KEY SHARE", [publication.number])
        yield


def _export_snapshot(connection: Connection) -> str:
    """Let others read what this transaction reads: a transaction that lands meanwhile is seen by all or by none."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    [(snapshot,)] = connection.execute("SELECT pg_export_snapshot()").fetchall()
    return str(snapshot)


def _undo_half_written(connection: Connection) -> None:
    """Undo what is open: its process is dead, for the caller holds the lock that a living one would hold."""
    opened = connection.execute("DELETE FROM open_publications RETURNING publication, window_start, window_end")
    for number, start, end in opened.fetchall():
        span = {"publication": number, "start": start, "end": end}
        connection.execute(statement("features", "undo_written"), span)
        connection.execute(statement("features", "undo_superseded"), span)
