"""Keeps the price of a bitcoin up to date: the worker asks the services of the sources that it follows.

One machine asks, however many there are: under a lock, and only if nobody has asked within ASK_EVERY. A service that
fails or tells nonsense does no harm: the next one is asked, and the price that is known is used until it is too old.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta

import httpx
import structlog

from txwatch.answers import BoundedClient
from txwatch.clock import Clock, utc_now
from txwatch.ingest.rest import RestClient, RestError
from txwatch.sources.chosen import PriceService
from txwatch.store.database import Connection, connect
from txwatch.store.locks import Lock, if_free
from txwatch.store.prices import MOST_AGE, insert_price, newest_noted_at, price_at
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.prices import Price

log = structlog.get_logger(__name__)

ASK_EVERY = timedelta(minutes=5)
AFTER_FAILURE = timedelta(minutes=1)
ANSWER_SECONDS = 30.0
MAX_BYTES = 64 << 10
"""Bytes of an answer; the prices in all currencies take some three thousand."""
MOST_TIMES = 2.0
"""Times the price of the last hour, up or down. No market moved so far so fast; a service's mistake may."""


class WildPriceError(ValueError):
    """A price that cannot be used; the message says why."""


class PriceKeeper:
    """Writes the price that the first service to give one tells. The `clock` says from when on it is used."""

    def __init__(self, database_url: str, services: Sequence[PriceService], clock: Clock = utc_now) -> None:
        self._database_url, self.services, self._clock = database_url, services, clock
        self._stop = threading.Event()
        self._is_failing = False

    def start(self) -> None:
        """Keep it up to date until `stop`, in a thread: a service may take its time. Does nothing without services."""
        if self.services:
            threading.Thread(target=self._follow, name="prices", daemon=True).start()

    def stop(self) -> None:
        """Stop keeping it up to date."""
        self._stop.set()

    def _follow(self) -> None:
        pause = timedelta(0)
        while not self._stop.wait(pause.total_seconds()):
            pause = self.refresh()

    def refresh(self) -> timedelta:
        """Ask, if it is time to. Gives how long to wait before the next look."""
        try:
            with connect(self._database_url, application="txwatch prices") as connection:
                return self._refresh(connection)
        except Exception as error:
            # The database is away, or a service did what nobody thought of: the next look may go well.
            self._failed([f"{type(error).__name__}: {error}".strip()])
            return AFTER_FAILURE

    def _refresh(self, connection: Connection) -> timedelta:
        with if_free(connection, Lock.PRICE) as held:
            if not held:
                return AFTER_FAILURE
            noted_at, now = newest_noted_at(connection), self._clock()
            # A time to come is of a clock that was wrong.
            if noted_at is not None and timedelta(0) <= now - noted_at < ASK_EVERY:
                return noted_at + ASK_EVERY - now
            failures: list[str] = []
            known = price_at(connection, now)
            for service in self.services:
                try:
                    price = self._ask(service, known)
                except (RestError, MalformedMessageError, WildPriceError, httpx.InvalidURL) as error:
                    failures.append(str(error))
                else:
                    insert_price(connection, price, self._clock())
                    self._succeeded(price)
                    return ASK_EVERY
            self._failed(failures)
            return AFTER_FAILURE

    def _ask(self, service: PriceService, known: Price | None) -> Price:
        """Raises RestError, MalformedMessageError, WildPriceError or httpx.InvalidURL."""
        with BoundedClient(MAX_BYTES, ANSWER_SECONDS, base_url=service.url, follow_redirects=True) as client:
            body = RestClient(client, attempts=1).get(service.path)
        now = self._clock()
        price = service.decode(body or b"", now)
        if now - price.told_at >= MOST_AGE:
            raise WildPriceError(f"{price.source}'s price is of {price.told_at:%d %b %H:%M} UTC")
        if known is not None and not known.usd / MOST_TIMES <= price.usd <= known.usd * MOST_TIMES:
            raise WildPriceError(f"{price.source} tells {price.usd:,.2f} USD, within an hour of {known.usd:,.2f} USD")
        return price

    def _succeeded(self, price: Price) -> None:
        if self._is_failing:
            log.info("price_known_again", usd=price.usd, source=price.source)
        self._is_failing = False

    def _failed(self, failures: Sequence[str]) -> None:
        """Say so once, until there is a price again: amounts are in BTC alone meanwhile, and nothing else suffers."""
        if not self._is_failing:
            log.warning("price_not_known", cause="; ".join(failures))
        self._is_failing = True
