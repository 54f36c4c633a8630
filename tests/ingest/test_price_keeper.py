"""Keeping the price: who asks, how often, and that nothing which a service does goes any further."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.builders import T0
from tests.waiting import PATIENCE_SECONDS
from txwatch.ingest.prices import AFTER_FAILURE, ASK_EVERY, MAX_BYTES, PriceKeeper
from txwatch.sources.chosen import ChosenSources
from txwatch.store.database import connect
from txwatch.store.locks import Lock, if_free
from txwatch.store.prices import MOST_AGE, price_at

BOTH = ("blockchain.info", "mempool.space")


class Service:
    """Answers both kinds of requests for the price as a test says: JSON, bytes, a status, or what a function does."""

    def __init__(self) -> None:
        self.now = T0
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        self.tell(68_000.0)

    def clock(self) -> datetime:
        return self.now

    def tell(self, usd: float) -> None:
        self.answers = {
            "/ticker": {"USD": {"last": usd}},
            "/api/v1/prices": {"time": int(self.now.timestamp()), "USD": usd},
        }

    @contextmanager
    def serve(self) -> Iterator[str]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                answer = service.answers[self.path]
                if callable(answer):
                    answer(self)
                    return
                status = answer if isinstance(answer, int) else 200
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join(PATIENCE_SECONDS)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def keeper(fresh: str, service: Service) -> Iterator[Callable[..., PriceKeeper]]:
    with service.serve() as url:

        def made(*names: str, mempool_space_url: str = url) -> PriceKeeper:
            sources = ChosenSources(names or BOTH, "", mempool_space_url=mempool_space_url, rest_url=url)
            return PriceKeeper(fresh, sources.price_services, service.clock)

        yield made


def known(database_url: str, now: datetime) -> float | None:
    with connect(database_url) as connection:
        price = price_at(connection, now)
    return None if price is None else price.usd


Made = Callable[..., PriceKeeper]


def test_the_first_source_that_is_followed_is_asked_and_once_in_five_minutes(
    fresh: str, service: Service, keeper: Made
) -> None:
    here, there = keeper(), keeper("mempool.space")
    assert here.refresh() == ASK_EVERY
    service.now += timedelta(minutes=2)
    service.tell(69_000)
    # Whichever worker looks, as after a shift or on another machine.
    assert [there.refresh(), keeper().refresh()] == [ASK_EVERY - timedelta(minutes=2)] * 2
    assert (service.asked, known(fresh, service.now)) == (["/ticker"], 68_000)
    service.now = T0 + ASK_EVERY
    service.tell(69_000)
    there.refresh()
    assert (service.asked, known(fresh, service.now)) == (["/ticker", "/api/v1/prices"], 69_000)


def test_only_one_of_several_workers_asks(fresh: str, service: Service, keeper: Made) -> None:
    with connect(fresh) as connection, if_free(connection, Lock.PRICE):
        assert keeper().refresh() == AFTER_FAILURE
    assert service.asked == []


def test_a_node_alone_asks_nobody(service: Service, keeper: Made) -> None:
    alone = keeper("bitcoin-core")
    alone.start()
    alone.stop()
    assert ChosenSources(("bitcoin-core",), "", rest_url="http://x", mempool_space_url="http://x").price_services == ()
    assert service.asked == []


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def flood(handler: BaseHTTPRequestHandler) -> None:
    """Sends more than any list of prices has, and no end."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    "answer",
    [
        500,
        404,
        429,
        403,
        b"",
        b"<html>",
        {"USD": {"last": 0}},
        {"USD": {"last": -1}},
        {"USD": {"last": "68000"}},
        {"USD": {"last": 1e300}},
        b'{"USD": {"last": NaN}}',
        {"EUR": {"last": 62_000}},
        hang_up,
        flood,
    ],
)
def test_a_service_that_fails_or_tells_nonsense_does_no_harm_and_the_next_is_asked(
    fresh: str, service: Service, keeper: Made, answer: object
) -> None:
    service.answers["/ticker"] = answer
    assert keeper().refresh() == ASK_EVERY
    assert (service.asked, known(fresh, T0)) == (["/ticker", "/api/v1/prices"], 68_000)
    with connect(fresh) as connection:
        assert connection.execute("SELECT source FROM usd_prices").fetchall() == [("mempool.space",)]


def test_failures_are_told_once_and_their_end_too(fresh: str, service: Service, keeper: Made) -> None:
    one = keeper("blockchain.info")
    service.answers["/ticker"] = 500
    with capture_logs() as logs:
        for _ in range(3):
            assert one.refresh() == AFTER_FAILURE
            service.now += AFTER_FAILURE
        service.tell(68_000)
        one.refresh()
        service.now += ASK_EVERY
        one.refresh()
    assert [entry["event"] for entry in logs] == ["price_not_known", "price_known_again"]
    assert logs[0]["cause"].endswith("/ticker: status 500")
    assert known(fresh, service.now) == 68_000


def test_a_price_that_is_an_hour_old_is_refused(fresh: str, service: Service, keeper: Made) -> None:
    service.answers["/api/v1/prices"] = {"time": int((T0 - MOST_AGE).timestamp()), "USD": 68_000}
    assert keeper("mempool.space").refresh() == AFTER_FAILURE
    assert known(fresh, T0) is None


def test_a_price_of_another_scale_is_refused_until_the_last_one_is_too_old(
    fresh: str, service: Service, keeper: Made
) -> None:
    one = keeper("blockchain.info")
    one.refresh()
    service.tell(680_000)
    service.now += ASK_EVERY
    assert one.refresh() == AFTER_FAILURE
    service.tell(6_800)
    assert one.refresh() == AFTER_FAILURE
    assert known(fresh, service.now) == 68_000
    service.now = T0 + MOST_AGE
    service.tell(680_000)
    assert one.refresh() == ASK_EVERY
    assert known(fresh, service.now) == 680_000


def test_services_that_are_nowhere_and_databases_that_are_away_are_borne(
    fresh: str, service: Service, keeper: Made
) -> None:
    for nowhere in ("http://127.0.0.1:9", "nonsense", "http://[", "ftp://127.0.0.1"):
        assert keeper("mempool.space", mempool_space_url=nowhere).refresh() == AFTER_FAILURE
    services = ChosenSources(BOTH, "", rest_url="http://127.0.0.1:9").price_services
    away = PriceKeeper("postgresql://127.0.0.1:9/none", services, service.clock)
    assert away.refresh() == AFTER_FAILURE
    assert known(fresh, T0) is None


def test_a_time_to_come_in_the_table_holds_nothing_up(fresh: str, service: Service, keeper: Made) -> None:
    service.now = T0 + timedelta(days=1)
    keeper().refresh()
    service.now = T0
    assert keeper().refresh() == ASK_EVERY
    assert known(fresh, T0) == 68_000


def test_it_is_kept_in_a_thread_until_it_is_stopped(fresh: str, service: Service, keeper: Made) -> None:
    class Kept(PriceKeeper):
        """Looks again at once, and tells when it has looked twice."""

        def refresh(self) -> timedelta:
            waits.append(super().refresh())
            if len(waits) == 2:
                self.stop()
                looked.set()
            return timedelta(0)

    waits: list[timedelta] = []
    looked = Event()
    kept = Kept(fresh, keeper("blockchain.info").services, service.clock)
    kept.start()
    assert looked.wait(PATIENCE_SECONDS)
    assert (waits, service.asked) == ([ASK_EVERY, ASK_EVERY], ["/ticker"])
