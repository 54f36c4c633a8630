"""The features of the contract, computed for a whole batch at once. The same function serves every lane.

Outputs do not say who owns them: the value moved is an estimate with bounds, in satoshi.

- `high`: all that is paid to addresses which the transaction does not also spend from. The rest is change for certain.
- `likely`: `high` without the output that is most likely change.
- `low`: `high` without its largest output, which may be the change; 0 for a single output, which may be a transfer to
  oneself.

Change is recognised by the heuristics of Meiklejohn et al., "A Fistful of Bitcoins" (2013) and of BlockSci (2020), the
first that singles out one output: by script type (change returns to the type that was spent), by round amounts (people
pay round amounts, change is what is left), and by the optimal-change rule (change is smaller than every input, or one
input would not have been needed). If none does, a payment of two outputs counts as the smaller of them: hot wallets
peel small payments off large coins far more often than they spend nearly a whole coin.
A merger of CONSOLIDATION_INPUTS or more coins into one output is a wallet that tidies up: likely nothing moved.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from txwatch.clock import WINDOW
from txwatch.features.batch import Coins, Flags, Floats, Ints, TransactionBatch
from txwatch.features.context import Context, transaction_shapes
from txwatch.features.contract import FEATURES
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import SCRIPT_TYPES

CONSOLIDATION_INPUTS = 10
ROUND_SAT = 100_000
"""0.001 BTC: a person typed an amount that is a multiple of this."""
_OP_RETURN = SCRIPT_TYPES.index("op_return")


def count_where(tx: Ints, condition: Flags, n: int) -> Floats:
    """How many coins of each of n transactions meet the condition."""
    return np.bincount(tx[condition], minlength=n).astype(np.float64)


def sum_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The sum of each transaction's values; exact for satoshi, which stay below 2^53."""
    return np.bincount(tx, values, minlength=n).astype(np.float64)


def max_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The largest value of each transaction, NaN without any or with an unknown one."""
    return _reduce(np.maximum, tx, values, n)


def min_by(tx: Ints, values: Floats, n: int) -> Floats:
    """The smallest value of each transaction, NaN without any or with an unknown one."""
    return _reduce(np.minimum, tx, values, n)


def distinct_by(tx: Ints, keys: Ints, n: int) -> Floats:
    """How many different keys each transaction has. Keys are not negative."""
    size = int(keys.max(initial=0)) + 1
    return np.bincount(np.unique(tx * size + keys) // size, minlength=n).astype(np.float64)


@dataclass(frozen=True)
class EqualValues:
    """How often each coin's value occurs in its transaction, and what follows from that; `times` has shape (coins,)."""

    tx: Ints
    times: Ints
    distinct: Floats
    """Different values of each transaction, shape (n,)."""

    @classmethod
    def of(cls, tx: Ints, values: Floats, n: int) -> "EqualValues":
        """Count the values of n transactions. An unknown value, NaN, equals no other."""
        if not len(tx):
            return cls(tx, np.zeros(0, np.int64), np.zeros(n))
        order = np.lexsort((values, tx))
        sorted_tx, sorted_values = tx[order], values[order]
        starts = np.flatnonzero(np.r_[True, (np.diff(sorted_tx) != 0) | (np.diff(sorted_values) != 0)])
        lengths = np.diff(np.r_[starts, len(tx)])
        times = np.empty(len(tx), np.int64)
        times[order] = np.repeat(lengths, lengths)
        return cls(tx, times, np.bincount(sorted_tx[starts], minlength=n).astype(np.float64))

    def most(self, n: int) -> Floats:
        """How often the most frequent value of each transaction occurs; 0 for a transaction without coins."""
        return np.nan_to_num(max_by(self.tx, self.times.astype(np.float64), n))


def member_of_same(tx: Ints, keys: Ints, other_tx: Ints, other_keys: Ints) -> Flags:
    """For each coin, whether its transaction has its key on the other side as well. Negative keys match nothing."""
    size = 1 + max(int(keys.max(initial=0)), int(other_keys.max(initial=0)))
    there = other_keys >= 0
    return (keys >= 0) & np.isin(tx * size + keys, other_tx[there] * size + other_keys[there])


def _reduce(ufunc: np.ufunc, tx: Ints, values: Floats, n: int) -> Floats:
    result = np.full(n, np.nan)
    if len(tx):
        starts = np.flatnonzero(np.r_[True, np.diff(tx) != 0])
        result[tx[starts]] = ufunc.reduceat(values, starts)
    return result


@dataclass(frozen=True)
class MovedValue:
    """Estimates in satoshi, each of shape (n,)."""

    low: Floats
    likely: Floats
    high: Floats


def moved_value(batch: TransactionBatch) -> MovedValue:
    """What each transaction of a batch moved."""
    return _moves(batch)[0]


def likely_paid(batch: TransactionBatch) -> Flags:
    """The outputs whose values likely moved: to others than the sender. Shape (outputs,)."""
    return _moves(batch)[1]


def _moves(batch: TransactionBatch) -> tuple[MovedValue, Flags]:
    n, inputs, outputs = len(batch), batch.inputs, batch.outputs
    returned = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
    external = ~returned & (outputs.type != _OP_RETURN)
    paid = Coins(outputs.tx[external], outputs.value[external], outputs.type[external], outputs.address[external])
    count = count_where(outputs.tx, external, n)
    high = sum_by(paid.tx, paid.value, n)
    change_known = count_where(outputs.tx, returned, n) > 0
    largest = np.nan_to_num(max_by(paid.tx, paid.value, n))

    kept = np.zeros(len(paid.tx), np.bool_)
    open_ = ~change_known & (count >= 2)
    for candidates in (
        _by_script_type(batch, paid, n),
        _by_roundness(paid, n),
        _by_optimal_change(batch, paid, n),
        (count[paid.tx] == 2) & (paid.value == largest[paid.tx]),
    ):
        single = open_ & (count_where(paid.tx, candidates, n) == 1)
        kept |= candidates & single[paid.tx]
        open_ &= ~single

    input_count = np.bincount(inputs.tx, minlength=n)
    consolidation = ~change_known & (count == 1) & (input_count >= CONSOLIDATION_INPUTS)
    kept |= consolidation[paid.tx]
    likely = high - sum_by(paid.tx[kept], paid.value[kept], n)
    low = np.where(change_known, np.where(count >= 1, high, 0.0), high - largest)
    moved = external.copy()
    moved[external] = ~kept
    return MovedValue(np.minimum(low, likely), likely, high), moved


def _by_script_type(batch: TransactionBatch, paid: Coins, n: int) -> Flags:
    """The output of the one type that was spent, when others are of another."""
    spent_type = min_by(batch.inputs.tx, batch.inputs.type.astype(np.float64), n)
    spent_type[distinct_by(batch.inputs.tx, batch.inputs.type, n) != 1] = np.nan
    return np.asarray(paid.type == spent_type[paid.tx])


def _by_roundness(paid: Coins, n: int) -> Flags:
    """The one output whose amount is not round, when all others are."""
    round_ = (paid.value % ROUND_SAT == 0) & (paid.value > 0)
    return np.asarray(~round_ & (count_where(paid.tx, round_, n) > 0)[paid.tx])


def _by_optimal_change(batch: TransactionBatch, paid: Coins, n: int) -> Flags:
    """The one output that is smaller than every input, when there are several inputs."""
    smallest_input = min_by(batch.inputs.tx, batch.inputs.value, n)
    smallest_input[np.bincount(batch.inputs.tx, minlength=n) < 2] = np.nan
    return np.asarray(paid.value < smallest_input[paid.tx])


BLOCKS_A_DAY = 144
"""At the ten minutes that the difficulty aims at."""
_TAPROOT = SCRIPT_TYPES.index("p2tr")
_IS_LEGACY = np.array([t in {"p2pk", "p2pkh", "multisig"} for t in SCRIPT_TYPES])
_TIME_LOCKS_FROM = 500_000_000
"""A lock time from here on is a moment in Unix seconds, below it a block height (BIP 113, script.h)."""
_HOUR, _DAY = timedelta(hours=1), timedelta(hours=24)
_WITNESS_DUST = {"p2a": 240, "p2wpkh": 294, "p2wsh": 330, "p2tr": 330, "witness_unknown": 330}
DUST_SAT = np.array([(_WITNESS_DUST | {"p2sh": 540, "op_return": 0}).get(t, 546) for t in SCRIPT_TYPES])
"""Bitcoin Core's dust limit at its default of 3 sat/vB, by script type code (policy.cpp, GetDustThreshold)."""


def transaction_features(batch: TransactionBatch, context: Context) -> Floats:
    """The feature contract of each transaction, of shape (n, len(FEATURES)); NaN where unknown.

    Each value is of its feature's type, and so what the store gives back.
    """
    columns = _amounts(batch) | _shape(batch) | _scripts(batch) | _moved(batch) | _ages(batch) | _header(batch)
    columns |= _against_network(batch, context) | _of_addresses(batch, context)
    # Stacked, all are float64, which holds every float32.
    return np.column_stack([columns[feature.name].astype(feature.type) for feature in FEATURES])


def _amounts(batch: TransactionBatch) -> dict[str, Floats]:
    value = batch.value_sat.astype(np.float64)
    fee_share = _ratio(batch.fee_sat, batch.fee_sat + value, 0.0)
    return {
        "value_sat": value,
        "fee_sat": batch.fee_sat,
        "fee_rate": batch.fee_sat / batch.vsize,
        "fee_share": np.where(np.isnan(batch.fee_sat), np.nan, fee_share),
        "vsize": batch.vsize.astype(np.float64),
        # weight = 3 * base + size, and the witness is what the base does not hold.
        "witness_share": 1.0 - (batch.weight - batch.size) / 3 / batch.size,
    }


def _shape(batch: TransactionBatch) -> dict[str, Floats]:
    n, inputs, outputs = len(batch), batch.inputs, batch.outputs
    value = batch.value_sat.astype(np.float64)
    input_count, output_count = _count(inputs, n), _count(outputs, n)
    smallest, largest = min_by(inputs.tx, inputs.value, n), max_by(inputs.tx, inputs.value, n)
    spendable = outputs.type != _OP_RETURN
    tx, values = outputs.tx[spendable], outputs.value[spendable]
    equal_inputs, equal_outputs = EqualValues.of(inputs.tx, inputs.value, n), EqualValues.of(tx, values, n)
    most = equal_outputs.most(n)
    repeated = sum_by(tx, np.where(equal_outputs.times > 1, values, 0.0), n)
    addressed = outputs.address >= 0
    return {
        "input_count": input_count,
        "output_count": output_count,
        "outputs_per_input": output_count / input_count,
        "equal_input_share": np.where(np.isnan(largest), np.nan, equal_inputs.most(n) / input_count),
        "input_value_spread": np.where(np.isnan(largest), np.nan, 1.0 - _ratio(smallest, largest, 1.0)),
        "largest_output_share": _ratio(max_by(outputs.tx, outputs.value, n), value, 1.0),
        "equal_output_count": most,
        "equal_output_share": most / output_count,
        "equal_output_value_share": _ratio(repeated, value, 0.0),
        "output_entropy": _entropy(batch, value),
        "distinct_output_values": equal_outputs.distinct,
        "distinct_output_addresses": distinct_by(outputs.tx[addressed], outputs.address[addressed], n),
        "dust_outputs": count_where(outputs.tx, spendable & (outputs.value <= DUST_SAT[outputs.type]), n),
        "round_outputs": count_where(outputs.tx, (outputs.value % ROUND_SAT == 0) & (outputs.value > 0), n),
        "op_return_outputs": count_where(outputs.tx, ~spendable, n),
    }


def _scripts(batch: TransactionBatch) -> dict[str, Floats]:
    n, inputs, outputs = len(batch), batch.inputs, batch.outputs
    spendable = outputs.type != _OP_RETURN
    paid_tx, paid_type = outputs.tx[spendable], outputs.type[spendable]
    spent_types, paid_types = distinct_by(inputs.tx, inputs.type, n), distinct_by(paid_tx, paid_type, n)
    first_spent = min_by(inputs.tx, inputs.type.astype(np.float64), n)
    first_paid = min_by(paid_tx, paid_type.astype(np.float64), n)
    paid_count = np.bincount(paid_tx, minlength=n).astype(np.float64)
    shared = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
    return {
        "input_script_types": spent_types,
        "output_script_types": paid_types,
        "same_script_type": ((spent_types == 1) & (paid_types == 1) & (first_spent == first_paid)).astype(np.float64),
        "input_legacy_share": count_where(inputs.tx, _IS_LEGACY[inputs.type], n) / _count(inputs, n),
        "input_taproot_share": count_where(inputs.tx, inputs.type == _TAPROOT, n) / _count(inputs, n),
        "output_legacy_share": _ratio(count_where(paid_tx, _IS_LEGACY[paid_type], n), paid_count, 0.0),
        "output_taproot_share": _ratio(count_where(paid_tx, paid_type == _TAPROOT, n), paid_count, 0.0),
        "reused_addresses": distinct_by(outputs.tx[shared], outputs.address[shared], n),
    }


def _moved(batch: TransactionBatch) -> dict[str, Floats]:
    moved = moved_value(batch)
    return {
        "moved_low_sat": moved.low,
        "moved_sat": moved.likely,
        "moved_high_sat": moved.high,
        "change_share": 1.0 - _ratio(moved.likely, batch.value_sat.astype(np.float64), 1.0),
    }


def _ages(batch: TransactionBatch) -> dict[str, Floats]:
    """How old the coins are, by height. Unknown where a transaction's source does not tell it of every coin.

    Coin days destroyed are the value of each coin times its age, 144 blocks to the day.
    """
    n, inputs = len(batch), batch.inputs
    age = np.maximum(batch.tip_height[inputs.tx] - batch.input_height, 0.0)  # 0 for unconfirmed coins; NaN stays
    destroyed = age / BLOCKS_A_DAY * inputs.value / SAT_PER_BTC
    return {"input_age_max_blocks": max_by(inputs.tx, age, n), "coin_days_destroyed": sum_by(inputs.tx, destroyed, n)}


def _header(batch: TransactionBatch) -> dict[str, Floats]:
    return {
        "rbf": batch.rbf.astype(np.float64),
        "version": batch.version.astype(np.float64),
        "lock_time_kind": (batch.lock_time > 0).astype(np.float64) + (batch.lock_time >= _TIME_LOCKS_FROM),
    }


def _against_network(batch: TransactionBatch, context: Context) -> dict[str, Floats]:
    """The transaction against what was usual. Unknown before there is a baseline."""
    n, network = len(batch), context.network
    fee_rate = batch.fee_sat / batch.vsize
    shapes = transaction_shapes(_count(batch.inputs, n), _count(batch.outputs, n))
    hour = min(_HOUR // WINDOW, network.windows_24h)  # in the first hour there is less than one to compare
    usual_1h = network.tx_count_24h * hour / max(network.windows_24h, 1)
    return {
        "fee_rate_over_median_1h": fee_rate / _known(network.median_fee_rate_1h),
        "fee_rate_over_median_24h": fee_rate / _known(network.median_fee_rate_24h),
        "value_over_median_24h": batch.value_sat / _known(network.median_value_sat_24h),
        "value_over_p99_24h": batch.value_sat / _known(network.p99_value_sat_24h),
        "kind_share_24h": np.array(network.kind_counts_24h, np.float64)[shapes] / _known(network.tx_count_24h or None),
        "arrivals_1h_over_24h": np.full(n, network.tx_count_1h / _known(usual_1h or None)),
    }


def _of_addresses(batch: TransactionBatch, context: Context) -> dict[str, Floats]:
    """What its input addresses did in the trailing day, each counted once. Unknown before there is a baseline."""
    n, inputs = len(batch), batch.inputs
    known = inputs.address >= 0
    pairs = np.unique(inputs.tx[known] * (len(batch.addresses) + 1) + inputs.address[known])
    tx, address = np.divmod(pairs, len(batch.addresses) + 1)
    end = context.network.as_of + WINDOW
    unseen = (0.0, 0.0, 0.0, 0.0, _DAY / _HOUR)
    rows = np.array([unseen] * len(batch.addresses)).reshape(-1, len(unseen))
    for number, text in enumerate(batch.addresses):
        if day := context.addresses.get(text):
            hours = (end - day.first_seen_at) / _HOUR, (end - day.last_seen_at) / _HOUR
            rows[number] = (day.tx_count, day.received_sat, day.spent_sat, *hours)
    tx_count, received, spent, known_h, idle_h = rows[address].T
    velocity = tx_count / np.maximum(known_h, WINDOW / _HOUR)
    columns = {
        "input_address_tx_24h": np.nan_to_num(max_by(tx, tx_count, n)),
        "input_address_tx_sum_24h": sum_by(tx, tx_count, n),
        "input_address_received_sat_max_24h": np.nan_to_num(max_by(tx, received, n)),
        "input_address_received_sat_24h": sum_by(tx, received, n),
        "input_address_spent_sat_max_24h": np.nan_to_num(max_by(tx, spent, n)),
        "input_address_spent_sat_24h": sum_by(tx, spent, n),
        "input_address_known_h_24h": np.nan_to_num(max_by(tx, known_h, n)),
        "input_address_idle_h_24h": np.nan_to_num(min_by(tx, idle_h, n), nan=_DAY / _HOUR),
        "input_address_velocity_24h": np.nan_to_num(max_by(tx, velocity, n)),
        "input_address_velocity_sum_24h": sum_by(tx, velocity, n),
    }
    return columns if context.network.version else dict.fromkeys(columns, np.full(n, np.nan))


def _entropy(batch: TransactionBatch, value: Floats) -> Floats:
    """Shannon entropy, in bits, of the shares of the outputs in the total."""
    outputs = batch.outputs
    share = _ratio(outputs.value, value[outputs.tx], 0.0)
    bits = -share * np.log2(share, where=share > 0, out=np.zeros_like(share))
    return np.maximum(sum_by(outputs.tx, bits, len(batch)), 0.0)


def _count(coins: Coins, n: int) -> Floats:
    return np.bincount(coins.tx, minlength=n).astype(np.float64)


def _known(value: float | None) -> float:
    return np.nan if value is None else value


def _ratio(a: Floats, b: Floats, of_nothing: float) -> Floats:
    return np.divide(a, b, out=np.full_like(a, of_nothing), where=b > 0)
