"""Random transactions for property tests: few addresses, that meet again, and all that may be missing."""

from datetime import timedelta

from hypothesis import strategies as st

from tests.builders import T0, transaction
from txwatch.wire.transaction import SCRIPT_TYPES, CreatedOutput, SpentOutput, Transaction

SPAN = timedelta(hours=3)
_addresses = st.sampled_from(["bc1qa", "bc1qb", "1c", "3d", "bc1pe", 'odd "one", {with} \\ signs', "ü"]) | st.none()
_amounts = st.integers(0, 5_000_000_000) | st.sampled_from([0, 294, 546, 100_000, 1_000_000, 1_000_000])
_types = st.sampled_from(SCRIPT_TYPES)
_spent = st.builds(SpentOutput, _addresses, _amounts | st.none(), _types, st.just(0))
_created = st.builds(CreatedOutput, _addresses, _amounts, _types, st.just(0))


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """One valid transaction, seen within SPAN of T0."""
    inputs = draw(st.lists(_spent, min_size=1, max_size=8))
    outputs = draw(
        st.lists(st.builds(CreatedOutput, _addresses, _amounts, _types, st.just(0)), min_size=1, max_size=12)
    )
    value = sum(output.value for output in outputs)
    resolved = None if any(spent.value is None for spent in inputs) else sum(spent.value or 0 for spent in inputs)
    if resolved is not None and resolved < value:
        inputs.append(SpentOutput("bc1qa", value - resolved, "p2wpkh", 0))
        resolved = value
    base = draw(st.integers(60, 5_000))
    size = base + draw(st.just(0) | st.integers(2, 20_000))
    weight = 3 * base + size
    return transaction(
        txid=f"{draw(st.integers(1, 2**255)):064x}",
        seen_at=T0 + draw(st.timedeltas(timedelta(0), SPAN - timedelta(microseconds=1))),
        value_sat=value,
        input_sat=resolved,
        fee_sat=None if resolved is None else resolved - value,
        vsize=-(-weight // 4),
        weight=weight,
        size=size,
        input_count=len(inputs),
        output_count=len(outputs),
        rbf=draw(st.booleans()),
        version=draw(st.sampled_from([1, 2, 3, -1, 2**31 + 1])),
        lock_time=draw(st.sampled_from([0, 0, 834_000, 1_710_000_000])),
        inputs=inputs,
        outputs=outputs,
        source="bulk",
    )


def traffic(min_size: int = 0) -> st.SearchStrategy[list[Transaction]]:
    """Transactions with txids of their own, in order of time, then txid."""
    unique = st.lists(transactions(), min_size=min_size, max_size=25, unique_by=lambda tx: tx.txid)
    return unique.map(lambda txs: sorted(txs, key=lambda tx: (tx.seen_at, tx.txid)))
