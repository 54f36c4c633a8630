"""What a bitcoin is worth, as blockchain.info's `/ticker` and mempool.space's `/api/v1/prices` tell it."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from txwatch.wire.messages import SAT_PER_BTC, MalformedMessageError

LEAST_USD, MOST_USD = 100.0, 100_000_000.0
"""USD for a bitcoin. What is told outside of this is a mistake, and would make dust a whale, or a whale dust."""

_Usd = Annotated[float, Meta(ge=LEAST_USD, le=MOST_USD)]
_DECODING_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)


class Price(Struct, frozen=True):
    """USD for one bitcoin. `told_at`, UTC, is when it held by its source's clock, or when it was asked for."""

    usd: float
    told_at: datetime
    source: str


def worth(satoshi: float | None, usd_price: float | None) -> float | None:
    """An amount in USD and cents, by the price of a bitcoin; None if one of them is not known."""
    return None if satoshi is None or usd_price is None else round(satoshi / SAT_PER_BTC * usd_price, 2)


class _Quote(Struct):
    last: _Usd


class _Ticker(Struct, rename={"usd": "USD"}):
    usd: _Quote


class _Prices(Struct, rename={"usd": "USD"}):
    usd: _Usd
    time: Annotated[int, Meta(gt=0, lt=2**33)]


def decode_ticker(body: bytes, now: datetime) -> Price:
    """The price of the last trade, which the answer gives no time of. Raises MalformedMessageError."""
    try:
        return Price(msgspec.json.decode(body, type=_Ticker).usd.last, now, "blockchain.info")
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(f"no price in the ticker: {error}") from error


def decode_prices(body: bytes, now: datetime) -> Price:
    """The price and its time; a server whose clock is ahead tells it as of now. Raises MalformedMessageError."""
    try:
        prices = msgspec.json.decode(body, type=_Prices)
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(f"no price of mempool.space: {error}") from error
    return Price(prices.usd, min(now, datetime.fromtimestamp(prices.time, UTC)), "mempool.space")
