"""The detectors of amounts, fees and shapes, and the list of all detectors.

What is unusual relative to the traffic is the forest's to find. What a kind means to the reader is in `kinds.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from txwatch.clock import EPOCH, MICROSECOND
from txwatch.detection.coinjoins import DUST_SAT, Coinjoin, Stonewall, WhirlpoolTx0, shared_amount
from txwatch.detection.coins import DormantCoins, DormantRoundMove
from txwatch.detection.conflicts import RedirectedReplacement, ReplacedOf, nothing_replaced, stored_replaced
from txwatch.detection.detector import Detector, Finding, column
from txwatch.detection.parents import Parents, ParentsOf, no_parents, stored_parents
from txwatch.detection.reasons import Reason, btc, times
from txwatch.features.batch import NO_ADDRESS, Coins, Flags, Floats, TransactionBatch
from txwatch.features.transaction import count_where, member_of_same
from txwatch.labels.flows import FLOW_CLASSES, Coin, flow_of
from txwatch.labels.label import Known
from txwatch.labels.store import NOTHING_KNOWN, KnownAddresses, read_version
from txwatch.store.database import Connection
from txwatch.store.prices import PriceOf, StoredPrices, no_price
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import SCRIPT_TYPES

_OP_RETURN = SCRIPT_TYPES.index("op_return")


@dataclass(frozen=True)
class FeeAccident(Detector):
    """A fee that nobody pays on purpose: large in itself, and far above what space costs.

    A large fee alone is no accident (20,000 inputs cost 0.7 BTC at 50 sat/vB), nor is a high rate alone (a bidding war
    pays it for a small transaction), nor is a fee above half of the input (ordinary in inscriptions).
    """

    kinds = ("fee_accident", "package_fee")
    _FEATURES = ("fee_sat", "fee_rate", "fee_rate_over_median_1h")
    min_fee_sat: float = 0.01 * SAT_PER_BTC
    min_times_median: float = 20.0
    min_fee_rate: float = 500.0
    """sat/vB; counts while no median is known."""
    parents_of: ParentsOf = no_parents

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        fee, rate, ratio = (column(features, name) for name in self._FEATURES)
        rows = np.flatnonzero(self.likely(features)).tolist()
        parents_of = self.parents_of(batch, rows)
        for row in rows:
            share = fee[row] / (fee[row] + batch.value_sat[row])
            text = f"fee of {btc(fee[row])}, {share:.0%} of what was spent, at {rate[row]:,.0f} sat/vB"
            if not np.isnan(ratio[row]):
                text += f", {times(ratio[row])} the median of the last hour"
            kind = "fee_accident"
            if (parents := parents_of.get(row)) is not None:
                package = (fee[row] + parents.fee_sat) / (batch.vsize[row] + parents.vsize)
                if not parents.known:
                    kind = "package_fee"
                    text += "; it may pay for unconfirmed parents as well, which cannot be told for certain"
                elif not self._is_absurd(package, ratio[row] * package / rate[row]):
                    continue
                else:
                    text += f"; {package:,.0f} sat/vB together with {_ancestors(parents)}"
            yield row, Reason(kind, text, "fee_sat", float(fee[row]))

    def likely(self, features: Floats) -> Flags:
        fee, rate, ratio = (column(features, name) for name in self._FEATURES)
        return (fee >= self.min_fee_sat) & self._is_absurd(rate, ratio)

    def _is_absurd(self, rate: Floats, ratio: Floats) -> Flags:
        """Of fee rates in sat/vB and as multiples of the median, NaN for none."""
        return np.where(np.isnan(ratio), rate >= self.min_fee_rate, ratio >= self.min_times_median)


@dataclass(frozen=True)
class Package(Detector):
    """A fee that is ordinary for the package that it pays for: nothing, or far more than others, by one transaction.

    Without a fee a transaction is relayed only together with a child that pays for it (BIP 431). Children are looked at
    whose sources tell all that they spend, and who pay a multiple of the median themselves.
    """

    kinds = ("package",)
    min_times_median: float = 3.0
    """Times the median of the last hour; less is in what the traffic varies by."""
    parents_of: ParentsOf = no_parents

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        ratio = column(features, "fee_rate_over_median_1h")
        for row in np.flatnonzero(self.likely(features)).tolist():
            yield row, Reason("package", "pays no fee: a child pays for it")
        untold = np.array([txid is None for txid in batch.spent_txids], np.bool_)
        told = count_where(batch.inputs.tx, untold, len(batch)) == 0
        rows = np.flatnonzero(told & (ratio >= self.min_times_median)).tolist()
        for row, parents in self.parents_of(batch, rows).items():
            fee, vsize = batch.fee_sat[row], batch.vsize[row]
            package = (fee + parents.fee_sat) / (vsize + parents.vsize)
            if parents.known and ratio[row] * package / (fee / vsize) < self.min_times_median:
                yield row, Reason("package", f"{package:,.1f} sat/vB together with {_ancestors(parents)}")

    def likely(self, features: Floats) -> Flags:
        unpaid: Flags = column(features, "fee_sat") == 0
        return unpaid


def _ancestors(parents: Parents) -> str:
    return "its unconfirmed parent" if parents.count == 1 else f"its unconfirmed {parents.count:,} parents"


@dataclass(frozen=True)
class Whale(Detector):
    """A large value that likely changed hands: outputs without the sender's change.

    It reaches one of two limits, in satoshi or, where there is a price, in USD. All of a batch is judged at one price.
    """

    kinds = ("whale",)
    min_moved_sat: float
    min_moved_usd: float | None = None
    price_of: PriceOf = no_price

    def least_sat(self, batch: TransactionBatch) -> float:
        """The lower limit in satoshi, at the price of the window of the batch."""
        if self.min_moved_usd is None or not len(batch):
            return self.min_moved_sat
        price = self.price_of(EPOCH + int(batch.seen_us[0]) * MICROSECOND)
        return (
            self.min_moved_sat if price is None else min(self.min_moved_sat, self.min_moved_usd / price * SAT_PER_BTC)
        )

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        moved = column(features, "moved_sat")
        for row in np.flatnonzero(moved >= self.least_sat(batch)):
            text = f"{btc(moved[row])} likely moved"
            if batch.value_sat[row] > moved[row]:
                text += f", of outputs of {btc(float(batch.value_sat[row]))}"
            yield int(row), Reason("whale", text, "moved_sat", float(moved[row]))

    def likely(self, features: Floats) -> Flags:
        return column(features, "moved_sat") >= self.min_moved_sat


@dataclass(frozen=True)
class DustStorm(Detector):
    """The same dust to many addresses that are not the sender's. Storms are many such transactions in minutes.

    Wallets that cut their coins into carriers of inscriptions pay the same dust too, but to an address or two.
    """

    kinds = ("dust_storm",)
    min_addresses: int = 20

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002 - one interface
        n, inputs, outputs = len(batch), batch.inputs, batch.outputs
        own = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
        dust = (outputs.value > 0) & (outputs.value <= DUST_SAT) & (outputs.type != _OP_RETURN)
        amount, addresses = shared_amount(outputs, dust & ~own, n)
        for row in np.flatnonzero(addresses >= self.min_addresses):
            text = f"{btc(amount[row])} of dust to each of {addresses[row]:,.0f} addresses"
            yield int(row), Reason("dust_storm", text, "dust_outputs", float(addresses[row]))

    def likely(self, features: Floats) -> Flags:
        return column(features, "dust_outputs") >= self.min_addresses


@dataclass(frozen=True)
class Consolidation(Detector):
    """Many coins merged into one output. Thousands of them are a kind of their own, which alerts."""

    kinds = ("consolidation", "huge_consolidation")
    min_inputs: int = 10
    huge_inputs: int = 2_000

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        count = column(features, "input_count")
        for row in np.flatnonzero(self.likely(features)):
            kind = "huge_consolidation" if count[row] >= self.huge_inputs else "consolidation"
            text = f"{count[row]:,.0f} coins merged into one output of {btc(float(batch.value_sat[row]))}"
            yield int(row), Reason(kind, text, "input_count", float(count[row]))

    def likely(self, features: Floats) -> Flags:
        likely: Flags = (column(features, "input_count") >= self.min_inputs) & (column(features, "output_count") == 1)
        return likely


@dataclass(frozen=True)
class BatchPayout(Detector):
    """A few coins pay many addresses at once, mostly more than dust: a service that pays its customers."""

    kinds = ("batch_payout",)
    min_addresses: int = 10
    min_outputs_per_input: float = 3.0

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        payees = column(features, "distinct_output_addresses")
        for row in np.flatnonzero(self.likely(features)):
            text = f"payout of {btc(float(batch.value_sat[row]))} to {payees[row]:,.0f} addresses at once"
            yield int(row), Reason("batch_payout", text, "output_count", float(payees[row]))

    def likely(self, features: Floats) -> Flags:
        payees = column(features, "distinct_output_addresses")
        spread = column(features, "outputs_per_input") >= self.min_outputs_per_input
        paid_more_than_dust = column(features, "dust_outputs") < payees / 2
        return (payees >= self.min_addresses) & spread & paid_more_than_dust


@dataclass(frozen=True)
class LabelledFlow(Detector):
    """A flow by labels. Only large transactions are looked at: ordinary ones cost no look-up."""

    kinds = tuple(flow for flow in FLOW_CLASSES if flow != "unknown")
    labels_of: Callable[[Iterable[str]], Mapping[str, Known]]
    whale: Whale
    min_sat: float
    min_inputs: int

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:
        large = batch.value_sat >= min(self.min_sat, self.whale.least_sat(batch))
        large |= column(features, "input_count") >= self.min_inputs
        rows = np.flatnonzero(large).tolist()
        coins = {row: (_coins(batch, batch.inputs, row), _coins(batch, batch.outputs, row)) for row in rows}
        addresses = {address for sides in coins.values() for side in sides for address, _ in side if address}
        known = self.labels_of(addresses) if addresses else {}
        if not known:
            return
        for row, (inputs, outputs) in coins.items():
            flow = flow_of(inputs, outputs, known)
            if flow.kind != "unknown":
                yield row, Reason(flow.kind, flow.text)


def _coins(batch: TransactionBatch, coins: Coins, row: int) -> list[Coin]:
    first, last = np.searchsorted(coins.tx, [row, row + 1])
    numbers, values = coins.address[first:last].tolist(), coins.value[first:last].tolist()
    return [
        (None if number == NO_ADDRESS else batch.addresses[number], value)
        for number, value in zip(numbers, values, strict=True)
    ]


@dataclass(frozen=True)
class WatchListed(Detector):
    """A watched address is spent from or paid to. `known` says of each watched address what is known of it.

    There is one reason for each watched address and side.
    """

    kinds = ("watch_listed",)
    known: Mapping[str, str] = field(default_factory=dict)

    def find(self, batch: TransactionBatch, features: Floats) -> Iterator[Finding]:  # noqa: ARG002
        watched = [number for number, address in enumerate(batch.addresses) if address in self.known]
        for coins, words in ((batch.inputs, "spends from"), (batch.outputs, "pays to")):
            hit = np.isin(coins.address, watched)
            for row, number in sorted(set(zip(coins.tx[hit].tolist(), coins.address[hit].tolist(), strict=True))):
                address = batch.addresses[number]
                yield row, Reason("watch_listed", f"{words} watched address {address} ({self.known[address]})")


def default_detectors(
    *,
    whale_btc: float,
    whale_usd: float | None = None,
    price_of: PriceOf = no_price,
    known: KnownAddresses = NOTHING_KNOWN,
    parents_of: ParentsOf = no_parents,
    replaced_of: ReplacedOf = nothing_replaced,
) -> list[Detector]:
    """The detectors in the order in which their reasons are given: the most severe first.

    `CurrentDetectors` takes prices, `known` addresses, unconfirmed parents and what is replaced from the database.
    """
    whale = Whale(whale_btc * SAT_PER_BTC, whale_usd, price_of)
    dormant, consolidation = DormantRoundMove(), Consolidation()
    return [
        FeeAccident(parents_of=parents_of),
        whale,
        DormantCoins(),
        dormant,
        WatchListed(known.watched),
        RedirectedReplacement(replaced_of=replaced_of),
        DustStorm(),
        LabelledFlow(known.labels_of, whale, dormant.min_sat, consolidation.huge_inputs),
        consolidation,
        Coinjoin(),
        WhirlpoolTx0(),
        Stonewall(),
        BatchPayout(),
        Package(parents_of=parents_of),
    ]


def find_all(detectors: Sequence[Detector], batch: TransactionBatch, features: Floats) -> dict[int, list[Reason]]:
    """What all of them find, by row, in the order of the detectors."""
    reasons: dict[int, list[Reason]] = {}
    for detector in detectors:
        for row, reason in detector.find(batch, features):
            reasons.setdefault(row, []).append(reason)
    return reasons


@dataclass
class CurrentDetectors:
    """Gives the detectors on a connection. The watch list is read again when it or a label has changed."""

    whale_btc: float
    whale_usd: float | None = None
    _built: tuple[Connection, int, list[Detector]] | None = field(default=None, init=False, repr=False)

    def __call__(self, connection: Connection) -> Sequence[Detector]:
        """The detectors as of now. Raises psycopg.OperationalError when the database is away."""
        version = read_version(connection)  # before the list: what changes in between is read again the next time
        if self._built is None or self._built[0] is not connection or self._built[1] != version:
            known = KnownAddresses.stored(connection)
            detectors = default_detectors(
                whale_btc=self.whale_btc,
                whale_usd=self.whale_usd,
                price_of=StoredPrices(connection),
                known=known,
                parents_of=stored_parents(connection),
                replaced_of=stored_replaced(connection),
            )
            self._built = (connection, version, detectors)
        return self._built[2]
