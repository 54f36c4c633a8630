"""The price of a bitcoin in USD, in Postgres: what was told of it, and which one holds at a moment.

A price is used from `noted_at` on, when it was written, and for an hour from `told_at`, when it held. So whoever asks
later for the price at a moment gets the one that was known then, or none. SQL asks by the function `usd_price_at`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.clock import window_start
from txwatch.store.database import Connection, scalar
from txwatch.wire.prices import Price

MOST_AGE = timedelta(hours=1)
"""Of a price that is used, from when it held. `usd_price_at` has it too."""
SETTLED = timedelta(minutes=1)
"""Time after which a price is committed, and all lanes see it."""


def insert_price(connection: Connection, price: Price, now: datetime) -> None:
    """Write a price, which is used from now on."""
    connection.execute(
        "INSERT INTO usd_prices (noted_at, told_at, usd, source) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [now, price.told_at, price.usd, price.source],
    )


def price_at(connection: Connection, moment: datetime) -> Price | None:
    """The price that was known at a moment, None if there was none, or one older than MOST_AGE."""
    row = connection.execute("SELECT usd, told_at, source FROM usd_price_at(%s)", [moment]).fetchone()
    return None if row is None else Price(*row)


def newest_noted_at(connection: Connection) -> datetime | None:
    """When the newest price was written, None before the first."""
    moment: datetime | None = scalar(connection, "SELECT max(noted_at) FROM usd_prices")
    return moment


PriceOf = Callable[[datetime], float | None]
"""Gives the price in USD by which the transactions of a window are judged, all of them by the same one."""


def no_price(_window: datetime) -> float | None:
    """Where there is no table to look into, amounts are judged in BTC alone."""
    return None


@dataclass
class StoredPrices:
    """A PriceOf that asks once for each window, as long as the windows come in order.

    What is known SETTLED before a window begins is what every lane and every later replay knows.
    """

    connection: Connection
    _last: tuple[datetime, float | None] | None = None

    def __call__(self, moment: datetime) -> float | None:
        window = window_start(moment)
        if self._last is None or self._last[0] != window:
            price = price_at(self.connection, window - SETTLED)
            self._last = (window, None if price is None else price.usd)
        return self._last[1]
