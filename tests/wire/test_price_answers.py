"""The price of a bitcoin: the answers of both services, and every one that cannot be a price."""

from datetime import timedelta

import pytest

from tests.builders import T0
from txwatch.lab.simulator.prices import prices_answer, ticker_answer, usd_price
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.prices import LEAST_USD, MOST_USD, Price, decode_prices, decode_ticker

TIME = int(T0.timestamp())


def test_the_ticker_gives_the_last_price_as_of_now() -> None:
    body = (
        b'{"EUR": {"last": 62000.5}, "USD": {"15m": 67000.1, "last": 68123.45, "buy": 1, "sell": 2, "symbol": "USD"}}'
    )
    assert decode_ticker(body, T0) == Price(68_123.45, T0, "blockchain.info")


def test_mempool_space_gives_the_price_and_when_it_held() -> None:
    body = b'{"time": %d, "USD": 68123, "EUR": 62000}' % (TIME - 90)
    assert decode_prices(body, T0) == Price(68_123.0, T0 - timedelta(seconds=90), "mempool.space")


def test_a_price_of_a_clock_that_is_ahead_is_as_of_now() -> None:
    assert decode_prices(b'{"time": %d, "USD": 68123}' % (TIME + 3_600), T0).told_at == T0


def test_the_simulated_services_agree() -> None:
    assert decode_ticker(ticker_answer(T0), T0).usd == usd_price(T0)
    assert decode_prices(prices_answer(T0), T0).usd == int(usd_price(T0))


WILD = [
    "0",
    "-68000",
    "NaN",
    "Infinity",
    '"68000"',
    "1e300",
    "1e999",
    "true",
    "null",
    "[]",
    "{}",
    f"{LEAST_USD - 0.01}",
    f"{MOST_USD + 1}",
    "9" * 400,
]


@pytest.mark.parametrize("usd", WILD)
def test_a_wild_price_is_refused(usd: str) -> None:
    with pytest.raises(MalformedMessageError):
        decode_ticker(f'{{"USD": {{"last": {usd}}}}}'.encode(), T0)
    with pytest.raises(MalformedMessageError):
        decode_prices(f'{{"time": {TIME}, "USD": {usd}}}'.encode(), T0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b'"USD"',
        b'{"EUR": {"last": 62000}}',
        b'{"USD": {}}',
        b"\xff\xfe",
        b"[" * 9_999,
    ],
)
def test_an_answer_without_a_price_is_refused(body: bytes) -> None:
    for decode in (decode_ticker, decode_prices):
        with pytest.raises(MalformedMessageError):
            decode(body, T0)


@pytest.mark.parametrize("time", ["0", "-1", "1e300", '"now"', "null", "1.5", str(2**40)])
def test_a_price_of_no_time_is_refused(time: str) -> None:
    with pytest.raises(MalformedMessageError):
        decode_prices(f'{{"time": {time}, "USD": 68000}}'.encode(), T0)
    with pytest.raises(MalformedMessageError):
        decode_prices(b'{"USD": 68000}', T0)
