"""Simulated history: hours of traffic landed in seconds, so that a new system has something to learn from."""

from datetime import datetime
from itertools import islice

from txwatch.simulator.traffic import Simulator
from txwatch.store.database import connect
from txwatch.store.landing import land_transactions

BATCH = 5_000


def land_history(database_url: str, simulator: Simulator, end: datetime) -> int:
    """Land the simulator's traffic up to `end`, as the live feed's would be. Returns the rows."""
    landed = 0
    with connect(database_url, application="txwatch history") as connection:
        traffic = (simulated.transaction("bulk") for simulated in simulator.until(end))
        while batch := list(islice(traffic, BATCH)):
            with connection.transaction():
                landed += len(land_transactions(connection, batch))
    return landed
