"""A transaction's score is the same wherever it is computed: as it arrives, in its sealed window, from a capture."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from tests.builders import pay, spend, utx
from tests.conftest import database_named
from tests.features.window_lane import materialize
from tests.ingest.following import worker_on
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import WINDOW, MonotoneClock, window_start
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import score
from txwatch.detection.score_windows import insert_scores, score_windows
from txwatch.detection.training import train
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.live import LiveContext
from txwatch.features.transaction import transaction_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions, read_transactions
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

START = datetime(2024, 3, 14, 23, 45, tzinfo=UTC)
"""So that a window of the test begins a new day, and with it a new partition."""
WINDOWS = [START + i * WINDOW for i in range(6)]
OFFSETS = (timedelta(milliseconds=1), timedelta(seconds=150), WINDOW - timedelta(milliseconds=900))
"""The first second of a window, its middle, and its last second."""
ADDRESSES = ["bc1qpopular", "bc1qquiet", "bc1qsometimes"]

HALF_A_SECOND = timedelta(milliseconds=500)

_numbers = count(1)


def parse(message: bytes, seen_at: datetime, **changes: Any) -> Transaction:
    decoded = decode(message)
    assert isinstance(decoded, UnconfirmedTransaction)
    return from_wire(decoded.x, seen_at, **changes)


def message(value: int) -> bytes:
    """A payment between the test's addresses, so that their activity counts."""
    n = next(_numbers)
    spent = spend(value + 1_000 * n)
    spent["prev_out"]["addr"] = ADDRESSES[n % 3]
    paid = pay(value) | {"addr": ADDRESSES[(n + 1) % 3]}
    return utx(hash=f"{n:064x}", inputs=[spent], out=[paid])


@dataclass
class Feed:
    """A real WebSocket server on loopback, and the clock that the worker reads, which only the test moves."""

    now: datetime = START
    connections: set[ServerConnection] = field(default_factory=set)

    async def serve(self) -> Server:
        return await serve(self._subscribe, "127.0.0.1", 0)

    async def _subscribe(self, connection: ServerConnection) -> None:
        async for request in connection:
            if json.loads(request)["op"] == "unconfirmed_sub":
                self.connections.add(connection)

    async def send(self, at: datetime, body: bytes) -> None:
        self.now = at
        for connection in self.connections:
            await connection.send(body)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def model() -> Model:
    simulator = Simulator(seed=3, start=START, rate=5.0)
    transactions = [parse(tx.message, tx.at) for tx in simulator.until(START + timedelta(minutes=5))]
    context = Context(NetworkContext(START, version=1, median_fee_rate_1h=15.0, tx_count_1h=9, tx_count_24h=9))
    features = transaction_features(TransactionBatch.of(transactions), context)
    trained = train(features, START, START + WINDOW, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=500)
    return Model("7", trained.pipeline, trained.card)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        yield connection


@pytest.fixture
def capture_connection(server_url: str) -> Iterator[Connection]:
    """A second database, which knows nothing but the capture."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE capture_of_no_skew TEMPLATE template_txwatch")
    with connect(database_named(server_url, "capture_of_no_skew")) as connection:
        yield connection


def landed(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM transactions WHERE source = 'feed'").fetchone()
    assert row is not None
    return int(row[0])


def scores(connection: Connection, lane: str = "%") -> dict[tuple[str, int], tuple[float, bool]]:
    rows = connection.execute(
        "SELECT txid, context_version, score, is_anomaly FROM transaction_scores WHERE lane LIKE %s", [lane]
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


def window_scores(connection: Connection, window: datetime, model: Model) -> dict[tuple[str, int], tuple[float, bool]]:
    """What the window lane alone would write for a window: into a transaction that is rolled back."""
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM transaction_scores")
        score_windows(connection, [window], model, whale_btc=500)
        return scores(connection, "window")


def score_live(connection: Connection, live: LiveContext, transactions: list[Transaction], model: Model) -> None:
    for batch, context in live.split(transactions):
        with connection.transaction():
            insert_scores(
                connection,
                score(batch, context, model, default_detectors(whale_btc=500)),
                model.version,
                context.network.version,
                lane="live",
            )


def test_live_window_and_capture_agree_to_the_last_digit(
    connection: Connection, capture_connection: Connection, database_url: str, model: Model, tmp_path: Path
) -> None:
    """Over six windows, with data recovered into an old window and a backfill of another one in between."""
    capture: list[tuple[datetime, bytes]] = []
    live = LiveContext(connection)
    feed = Feed()
    in_window: dict[datetime, dict[tuple[str, int], tuple[float, bool]]] = {}

    async def watch() -> None:
        server = await feed.serve()
        stop = asyncio.Event()
        port = server.sockets[0].getsockname()[1]
        worker = worker_on(
            database_url, f"ws://127.0.0.1:{port}", "test", tmp_path, clock=MonotoneClock(lambda: feed.now)
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            await until(lambda: bool(feed.connections))
            for window in WINDOWS:
                for offset in OFFSETS:
                    if window + offset == WINDOWS[4] + OFFSETS[1]:
                        recover_and_backfill()
                    await feed.send(window + offset, body := message(50_000))
                    capture.append((window + offset, body))
                    await until(lambda: landed(connection) == len(capture))
                    arrived = read_transactions(
                        connection, window + offset, window + offset + timedelta(milliseconds=500)
                    )
                    assert len(arrived) == 1
                    score_live(connection, live, arrived, model)
                feed.now = window + WINDOW
                materialize(connection, window, window + WINDOW)
                score_windows(connection, [window], model, whale_btc=500)
                in_window[window] = window_scores(connection, window, model)
        finally:
            stop.set()
            await running
            server.close()
            await server.wait_closed()

    def recover_and_backfill() -> None:
        """In the midst of window 4: a transaction of window 1 is found in a block, and window 0 is backfilled."""
        before = scores(connection)
        with connection.transaction():
            land_transactions(
                connection, [parse(message(7_000_000), WINDOWS[1] + timedelta(seconds=200), source="block")]
            )
        assert [context.version for context in materialize(connection, WINDOWS[1], WINDOWS[2])] == [2]
        assert [context.version for context in materialize(connection, WINDOWS[0], WINDOWS[1])] == [1]
        score_windows(connection, WINDOWS[:2], model, whale_btc=500)
        after = scores(connection)
        assert before.items() <= after.items(), "what was scored stays as it was"
        assert len(after) == len(before) + 1

    asyncio.run(watch())

    live_scores = scores(connection, "live")
    assert len(live_scores) == len(capture) == len(WINDOWS) * len(OFFSETS)
    seen = {parse(body, at).txid: window_start(at) for at, body in capture}
    versions = {window: [version for txid, version in live_scores if seen[txid] == window] for window in WINDOWS}
    assert [versions[window] for window in WINDOWS] == [[0] * 3] * 2 + [[1] * 3] * 4
    for window in WINDOWS:
        assert {key: live_scores[key] for key in in_window[window]} == in_window[window]

    # Window 3 is computed once more, with what is known now of window 1: beside the live scores, not instead of them.
    materialize(connection, WINDOWS[3], WINDOWS[4])
    score_windows(connection, [WINDOWS[3]], model, whale_btc=500)
    assert sorted(version for txid, version in scores(connection) if seen.get(txid) == WINDOWS[3]) == [1] * 3 + [2] * 3
    assert scores(connection, "live") == live_scores

    with capture_connection.transaction():
        land_transactions(capture_connection, [parse(body, at, source="bulk") for at, body in capture])
    materialize(capture_connection, WINDOWS[0], WINDOWS[-1] + WINDOW)
    score_windows(capture_connection, WINDOWS, model, whale_btc=500)
    assert scores(capture_connection) == live_scores
