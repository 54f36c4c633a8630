"""The features of the contract, computed for a whole batch at once. The same function serves every lane."""

import numpy as np
from numpy.typing import NDArray

from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.groups import count_where, distinct_by, max_by, member_of_same, most_repeated_by, sum_by
from txwatch.features.moved import ROUND_SAT, moved_value
from txwatch.wire.scripts import SCRIPT_TYPES

Floats = NDArray[np.float64]

_OP_RETURN = SCRIPT_TYPES.index("op_return")
DUST_SAT = np.array(
    [{"p2wpkh": 294, "p2wsh": 330, "p2tr": 330, "p2sh": 540, "op_return": 0}.get(t, 546) for t in SCRIPT_TYPES]
)
"""Bitcoin Core's dust limit at its default of 3 sat/vB, by script type code (policy.cpp, GetDustThreshold)."""


def transaction_features(batch: TransactionBatch, context: Context) -> Floats:
    """The feature contract of each transaction, of shape (n, len(FEATURE_NAMES)); NaN where unknown."""
    columns = _own(batch) | _against_network(batch, context) | _of_addresses(batch, context)
    return np.column_stack([columns[name] for name in FEATURE_NAMES])


def _own(batch: TransactionBatch) -> dict[str, Floats]:
    """What the transaction says by itself."""
    n, inputs, outputs = len(batch), batch.inputs, batch.outputs
    output_count = np.bincount(outputs.tx, minlength=n).astype(np.float64)
    value = batch.value_sat.astype(np.float64)
    spendable = outputs.type != _OP_RETURN
    equal = most_repeated_by(outputs.tx[spendable], outputs.value[spendable], n)
    shared = member_of_same(outputs.tx, outputs.address, inputs.tx, inputs.address)
    shared_addresses = outputs.address[shared]
    return {
        "value_sat": value,
        "fee_sat": batch.fee_sat,
        "fee_rate": batch.fee_sat / batch.vsize,
        "vsize": batch.vsize.astype(np.float64),
        "input_count": np.bincount(inputs.tx, minlength=n).astype(np.float64),
        "output_count": output_count,
        "largest_output_share": _ratio(max_by(outputs.tx, outputs.value, n), value, 1.0),
        "equal_output_count": equal,
        "equal_output_share": equal / output_count,
        "output_entropy": _entropy(batch, value),
        "dust_outputs": count_where(outputs.tx, spendable & (outputs.value <= DUST_SAT[outputs.type]), n),
        "round_outputs": count_where(outputs.tx, (outputs.value % ROUND_SAT == 0) & (outputs.value > 0), n),
        "op_return_outputs": count_where(outputs.tx, ~spendable, n),
        "input_script_types": distinct_by(inputs.tx, inputs.type, n),
        "output_script_types": distinct_by(outputs.tx[spendable], outputs.type[spendable], n),
        "reused_addresses": distinct_by(outputs.tx[shared], shared_addresses, n),
        "moved_sat": moved_value(batch).likely,
        "rbf": batch.rbf.astype(np.float64),
    }


def _against_network(batch: TransactionBatch, context: Context) -> dict[str, Floats]:
    """The transaction against what was usual. Unknown before there is a baseline."""
    fee_rate, value = context.network.median_fee_rate_1h, context.network.median_value_sat_24h
    return {
        "fee_rate_over_median_1h": batch.fee_sat / batch.vsize / (np.nan if fee_rate is None else fee_rate),
        "value_over_median_24h": batch.value_sat / (np.nan if value is None else value),
    }


def _of_addresses(batch: TransactionBatch, context: Context) -> dict[str, Floats]:
    """What its input addresses did in the trailing day, each counted once. Unknown before there is a baseline."""
    n, inputs = len(batch), batch.inputs
    if context.network.version == 0:
        return dict.fromkeys(("input_address_tx_24h", "input_address_spent_sat_24h"), np.full(n, np.nan))
    known = inputs.address >= 0
    pairs = np.unique(inputs.tx[known] * (len(batch.addresses) + 1) + inputs.address[known])
    tx, address = np.divmod(pairs, len(batch.addresses) + 1)
    activity = [context.addresses.get(text) for text in batch.addresses]
    tx_count = np.array([a.tx_count if a else 0 for a in activity], np.float64)
    spent = np.array([a.spent_sat if a else 0 for a in activity], np.float64)
    return {
        "input_address_tx_24h": np.nan_to_num(max_by(tx, tx_count[address], n)),
        "input_address_spent_sat_24h": sum_by(tx, spent[address], n),
    }


def _entropy(batch: TransactionBatch, value: Floats) -> Floats:
    """Shannon entropy, in bits, of the shares of the outputs in the total."""
    outputs = batch.outputs
    share = _ratio(outputs.value, value[outputs.tx], 0.0)
    bits = -share * np.log2(share, where=share > 0, out=np.zeros_like(share))
    return np.maximum(sum_by(outputs.tx, bits, len(batch)), 0.0)


def _ratio(a: Floats, b: Floats, of_nothing: float) -> Floats:
    return np.divide(a, b, out=np.full_like(a, of_nothing), where=b > 0)
