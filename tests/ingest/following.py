"""Running a worker in a test, and comparing what it landed with what the feed sent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from msgspec import structs

from tests.builders import numbered_utx, pay
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import Clock, MonotoneClock
from txwatch.ingest.worker import IngestWorker, Shift
from txwatch.sources.blockchain_info import BlockchainInfo
from txwatch.sources.websocket import SILENCE_SECONDS
from txwatch.store.database import connect
from txwatch.store.transactions import read_transactions
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2100, 1, 1, tzinfo=UTC)


def utxs(first: int, last: int) -> list[bytes]:
    """Feed messages with the txids `first` up to and without `last`, each of another amount."""
    return [numbered_utx(n, out=[pay(1_000 + n % 9_000)]) for n in range(first, last)]


def sent(messages: Iterable[bytes]) -> dict[str, Transaction]:
    """The rows that these messages must become, by txid, but for the moment of receipt."""
    rows = {}
    for body in messages:
        message = decode(body)
        assert isinstance(message, UnconfirmedTransaction)
        tx = from_wire(message.x, LONG_AGO)
        rows[tx.txid] = tx
    return rows


def landed(database_url: str) -> dict[str, Transaction]:
    """Every row there is, in the same form."""
    with connect(database_url) as connection:
        rows = read_transactions(connection, LONG_AGO, FAR_OFF)
    assert len({tx.txid for tx in rows}) == len(rows)
    return {tx.txid: structs.replace(tx, seen_at=LONG_AGO) for tx in rows}


def query(database_url: str, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with connect(database_url) as connection:
        return connection.execute(sql, values).fetchall()  # type: ignore[call-overload,no-any-return]


def fast() -> Iterator[float]:
    """Delays of reconnecting that no test has to wait for."""
    return repeat(0.02)


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition, which is looked at beside the event loop. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def ban(server_url: str, database_url: str, banned: bool) -> None:
    """Let the server refuse this database's connections, and end those that it has; or let them in again."""
    name = urlsplit(database_url).path.removeprefix("/")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {not banned}")  # type: ignore[arg-type]
        if banned:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def has_landed(database_url: str, count: int) -> Callable[[], bool]:
    """Whether at least so many transactions are there."""
    return lambda: query(database_url, "SELECT count(*) FROM transactions")[0][0] >= count


def worker_on(
    database_url: str,
    stream_url: str,
    holder: str,
    spool: Path,
    *,
    clock: Clock | None = None,
    silence_seconds: float = SILENCE_SECONDS,
    **options: Any,
) -> IngestWorker:
    """A worker that follows one feed of blockchain.info's form."""
    clock = clock or MonotoneClock()
    source = BlockchainInfo(stream_url, clock, silence_seconds=silence_seconds)
    return IngestWorker(database_url, [source], holder, spool, clock, **options)


@asynccontextmanager
async def following(database_url: str, stream_url: str, spool: Path, **options: Any) -> AsyncIterator["Following"]:
    """A worker beside the block; told to stop at its end, unless it has left."""
    worker = worker_on(database_url, stream_url, options.pop("holder", "test"), spool, delays=fast, **options)
    stop = asyncio.Event()
    running = Following(worker, stop, asyncio.create_task(worker.run(stop)))
    try:
        yield running
    finally:
        await running.stop()


class Following:
    """A worker that runs beside the test."""

    def __init__(self, worker: IngestWorker, stop: asyncio.Event, task: asyncio.Task[Shift]) -> None:
        self.worker = worker
        self._stop = stop
        self.task = task

    async def stop(self) -> Shift:
        """Tell it to stop, and wait until it has."""
        self._stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.task
