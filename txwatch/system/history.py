"""Simulated history: hours of traffic landed in seconds, so that a new system has something to learn from."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from txwatch.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.store.database import connect
from txwatch.store.landing import land_transactions
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

BATCH = 5_000


def land_history(database_url: str, simulator: Simulator, end: datetime) -> int:
    """Land the simulator's traffic up to `end` through the same decoder as the live feed's. Returns the rows."""
    landed = 0
    with connect(database_url, application="txwatch history") as connection:
        traffic = _decoded(simulator.until(end))
        while batch := list(islice(traffic, BATCH)):
            with connection.transaction():
                landed += len(land_transactions(connection, batch))
    return landed


def _decoded(traffic: Iterator[SimulatedTransaction]) -> Iterator[Transaction]:
    for simulated in traffic:
        message = decode(simulated.message)
        if isinstance(message, UnconfirmedTransaction):
            yield from_wire(message.x, simulated.at, "bulk")
