"""What a bitcoin is worth in the simulated world, as blockchain.info and mempool.space tell it."""

import math
from datetime import datetime

import msgspec

MEAN_USD = 68_000.0
"""USD, the price of March and of October 2024."""
SWING = 0.01
"""Share by which it rises and falls, within a day."""
EUR_PER_USD = 0.92


def usd_price(now: datetime) -> float:
    """The price at a moment, in USD and cents."""
    return round(MEAN_USD * (1 + SWING * math.sin(2 * math.pi * now.timestamp() / 86_400)), 2)


def ticker_answer(now: datetime) -> bytes:
    """The answer to blockchain.info's `/ticker`."""
    usd = usd_price(now)
    return msgspec.json.encode({"EUR": _quote("EUR", round(usd * EUR_PER_USD, 2)), "USD": _quote("USD", usd)})


def prices_answer(now: datetime) -> bytes:
    """The answer to mempool.space's `/api/v1/prices`, in whole units."""
    usd = usd_price(now)
    return msgspec.json.encode({"time": int(now.timestamp()), "USD": int(usd), "EUR": int(usd * EUR_PER_USD)})


def _quote(symbol: str, price: float) -> dict[str, float | str]:
    return {"15m": price, "last": price, "buy": price, "sell": price, "symbol": symbol}
