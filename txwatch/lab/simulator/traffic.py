"""The simulator: an endless, seeded stream of feed messages with labelled anomalies among them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import inf

import numpy as np
from msgspec import Struct

from txwatch.lab.simulator.ordinary import OrdinaryTraffic
from txwatch.lab.simulator.plants import (
    BUILDERS,
    FIRST_WITHIN_SECONDS,
    PEEL_CHAIN,
    PEELED_KINDS,
    PLANTS_PER_HOUR,
    REPLACED_KINDS,
    PeelChains,
    Replacements,
    label,
    schedule,
)
from txwatch.lab.simulator.regimes import regime_named
from txwatch.lab.simulator.spending import Draft, feed_message, older_txid, total
from txwatch.lab.simulator.wallets import AddressBook, Draws
from txwatch.wire.transaction import CreatedOutput, Origin, SpentOutput, Transaction

_SECONDS_A_BLOCK = 64


class SimulatedTransaction(Struct, frozen=True, gc=False):
    """A transaction that arrives `at` (UTC), as the feed sends it and as the program reads it.

    `replaces` is the txid of an earlier one whose coins it spends for a higher fee: only one of the two can be mined.
    """

    at: datetime
    txid: str
    draft: Draft
    labels: tuple[str, ...]
    replaces: str | None = None

    @property
    def fee_sat(self) -> int:
        return self.draft.fee_sat

    @property
    def weight(self) -> int:
        return self.draft.sizes.weight

    @property
    def message(self) -> bytes:
        return feed_message(self.draft, self.txid, int(self.at.timestamp()))

    @property
    def makers(self) -> list[str]:
        """For each coin that it spends the txid of the transaction that made it.

        A coin from before the simulation gets a txid here that stays: ask in the order of arrival.
        """
        for place, coin in enumerate(self.draft.coins):
            coin.txid = coin.txid or older_txid(self.txid, place)
        return [coin.txid for coin in self.draft.coins]

    def transaction(self, source: Origin) -> Transaction:
        """What decoding the message gives, without the message, which would take twice as long as all the rest."""
        draft = self.draft
        input_sat, value_sat, weight = total(draft.coins), total(draft.outputs), draft.sizes.weight
        return Transaction(
            txid=self.txid,
            seen_at=self.at,
            feed_time=self.at.replace(microsecond=0),
            value_sat=value_sat,
            input_sat=input_sat,
            fee_sat=input_sat - value_sat,
            vsize=-(-weight // 4),
            weight=weight,
            size=draft.sizes.size,
            input_count=len(draft.coins),
            output_count=len(draft.outputs),
            rbf=draft.rbf,
            version=draft.version,
            lock_time=0,
            inputs=[SpentOutput(coin.owner.text, coin.value, coin.owner.type, coin.n) for coin in draft.coins],
            outputs=[CreatedOutput(coin.owner.text, coin.value, coin.owner.type, coin.n) for coin in draft.outputs],
            source=source,
        )


class Simulator:
    """Traffic of one regime from a moment on. The same seed, start and rates give the same messages.

    `rate` is in transactions a second, the regime's own by default; plants come on top of it, unless `plants` is False.
    `peeled_share` of the whales, the first one in any case, begin a peel chain, whose hops are labelled as such;
    `replaced_share` of the others are soon sent again for a higher fee, with the same labels: both on top of all rates.
    The first whale comes within `first_whale_within` seconds. Raises ValueError for an unknown regime or plant, a start
    without time zone or a rate that is not positive.
    """

    def __init__(
        self,
        regime: str = "2024-03",
        *,
        seed: int,
        start: datetime,
        rate: float | None = None,
        plants: bool = True,
        plants_per_hour: Mapping[str, float] = PLANTS_PER_HOUR,
        replaced_share: float = 0.0,
        peeled_share: float = 0.0,
        first_whale_within: float = FIRST_WITHIN_SECONDS,
    ) -> None:
        if start.tzinfo is None:
            raise ValueError("start has no time zone")
        if rate is not None and rate <= 0:
            raise ValueError(f"rate is {rate}, it must be above 0 transactions a second")
        self.regime = regime_named(regime)
        self.start = start.astimezone(UTC)
        self.rate = rate or self.regime.transactions_per_second
        identity = f"{regime}/{seed}/{self.start.isoformat()}".encode()
        self._txids = sha256(identity)
        entropy = np.random.SeedSequence(int.from_bytes(self._txids.digest()[:16]))
        generators = map(np.random.default_rng, entropy.spawn(6))
        arrivals, ordinary, planting, scheduling, replacing, peeling = generators
        self._planting = Draws(planting)
        self._traffic = OrdinaryTraffic(self.regime, Draws(ordinary))
        self._count = 0
        self._due = _merge(
            arrival_seconds(arrivals, self.rate, self.regime.dispersion),
            schedule(Draws(scheduling), plants_per_hour if plants else {}, first_whale_within),
        )
        self._next = next(self._due)
        self._replacements = Replacements(Draws(replacing), replaced_share)
        peels = Draws(peeling)
        self._peels = PeelChains(peels, AddressBook(peels, self.regime.payee_types), peeled_share)

    def until(self, end: datetime) -> Iterator[SimulatedTransaction]:
        """The transactions that arrive before `end` and were not given yet, in order of arrival."""
        limit = (end - self.start).total_seconds()
        while True:
            seconds, kind = self._next
            replaced_at, peeled_at = self._replacements.next_at, self._peels.next_at
            if min(seconds, replaced_at, peeled_at) >= limit:
                return
            if peeled_at < min(seconds, replaced_at):
                at, draft = self._peels.pop()
                yield self._finish(draft, self.start + timedelta(seconds=at), (label(PEEL_CHAIN),))
            elif replaced_at < seconds:
                at, replaced, labels, draft = self._replacements.pop()
                yield self._finish(draft, self.start + timedelta(seconds=at), labels, replaced)
            else:
                self._next = next(self._due)
                yield self._transaction(seconds, kind)

    def _transaction(self, seconds: float, kind: str) -> SimulatedTransaction:
        at = self.start + timedelta(seconds=seconds)
        if not kind:
            return self._finish(self._traffic.draft(), at)
        draft = BUILDERS[kind](self._planting, self._traffic)
        sent = self._finish(draft, at, (label(kind),))
        peeled = kind in PEELED_KINDS and self._peels.consider(seconds, draft)
        if kind in REPLACED_KINDS and not peeled:
            self._replacements.consider(seconds, sent.txid, sent.labels, draft)
        return sent

    def _finish(
        self, draft: Draft, at: datetime, labels: tuple[str, ...] = (), replaces: str | None = None
    ) -> SimulatedTransaction:
        self._count += 1
        digest = self._txids.copy()
        digest.update(self._count.to_bytes(8))
        txid = digest.hexdigest()
        for coin in draft.outputs:
            coin.txid = txid
        return SimulatedTransaction(at, txid, draft, labels, replaces)


def arrival_seconds(generator: np.random.Generator, rate: float, dispersion: float) -> Iterator[float]:
    """Arrivals in seconds since the start: Poisson with a gamma-distributed rate that changes each second.

    The counts per second then have mean `rate` and variance `dispersion * rate` (negative binomial).
    """
    shape = rate / (dispersion - 1.0)
    begin = 0
    while True:
        rates = generator.gamma(shape, rate / shape, _SECONDS_A_BLOCK)
        seconds = np.repeat(np.arange(begin, begin + _SECONDS_A_BLOCK), generator.poisson(rates))
        yield from np.sort(seconds + generator.random(len(seconds))).tolist()
        begin += _SECONDS_A_BLOCK


def _merge(ordinary: Iterator[float], planted: Iterator[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """Both streams in order of time; ordinary traffic has no kind. The planted stream may end."""
    at, kind = next(planted, (inf, ""))
    for seconds in ordinary:
        while at <= seconds:
            yield at, kind
            at, kind = next(planted, (inf, ""))
        yield seconds, ""
