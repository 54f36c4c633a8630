"""Simulated transactions a second of one process's CPU time, and of a clock when they are landed as history.

The limit of a message is the hash for its txid and its JSON, of what is there already; that of history is landing what
is there already. The baseline of both other figures is the way through the message and its decoder.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice

import msgspec

from benchmarks.harness import Bench, Measurement
from txwatch.lab.simulator.spending import FeedMessage
from txwatch.lab.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions
from txwatch.system.history import BATCH, land_history
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

START = datetime(2024, 3, 14, tzinfo=UTC)
SECONDS = 2 * 3_600
ROUNDS = 3
"""Alternately; the best of each counts, for what else the machine does only takes time."""


def measure(bench: Bench) -> Iterator[Measurement]:
    """Messages, transactions, and history from nothing to rows."""
    end = START + timedelta(seconds=bench.size(SECONDS))
    messages = [simulated.message for simulated in _simulator().until(end)]
    decoded = [msgspec.json.decode(message, type=FeedMessage) for message in messages]
    count = len(messages)
    ways: dict[str, Callable[[], object]] = {
        "messages": lambda: [simulated.message for simulated in _simulator().until(end)],
        "transactions": lambda: [simulated.transaction("bulk") for simulated in _simulator().until(end)],
        "decoded": lambda: [_decoded(simulated) for simulated in _simulator().until(end)],
        "alone": lambda: [(sha256(b"%d" % n).hexdigest(), msgspec.json.encode(m)) for n, m in enumerate(decoded)],
    }
    rates: dict[str, float] = dict.fromkeys(ways, 0.0)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.process_time()
            way()
            rates[name] = max(rates[name], count / (time.process_time() - began))
    why = "the way through the message and its decoder"
    yield Measurement("simulated_messages", rates["messages"], "tx/s", limit=rates["alone"], why="hash and JSON alone")
    yield Measurement("simulated_transactions", rates["transactions"], "tx/s", rates["decoded"], why=why)
    ready = [simulated.transaction("bulk") for simulated in _simulator().until(end)]
    landed = alone = through = 0.0
    for _ in range(ROUNDS):
        url = bench.database()
        began = time.perf_counter()
        land_history(url, _simulator(), end)
        landed = max(landed, count / (time.perf_counter() - began))
        alone = max(alone, _land(bench.database(), iter(ready)))
        decoding = (_decoded(simulated) for simulated in _simulator().until(end))
        through = max(through, _land(bench.database(), decoding))
    yield Measurement("simulated_history", landed, "tx/s", through, alone, why=f"{why}; landing alone")


def _simulator() -> Simulator:
    return Simulator("2024-03", seed=1, start=START)


def _decoded(simulated: SimulatedTransaction) -> Transaction:
    message = decode(simulated.message)
    assert isinstance(message, UnconfirmedTransaction)
    return from_wire(message.x, simulated.at, "bulk")


def _land(database_url: str, transactions: Iterator[Transaction]) -> float:
    """Land in history's batches. Returns transactions a second."""
    landed = 0
    began = time.perf_counter()
    with connect(database_url) as connection:
        while batch := list(islice(transactions, BATCH)):
            with connection.transaction():
                landed += len(land_transactions(connection, batch))
    return landed / (time.perf_counter() - began)
