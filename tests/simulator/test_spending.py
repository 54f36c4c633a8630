"""The sizes that the simulator gives a transaction are those that the program derives from its message."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0
from txwatch.simulator.addresses import KINDS, PROGRAM_BYTES, make_addresses
from txwatch.simulator.chain import read_transaction
from txwatch.simulator.draws import Draws
from txwatch.simulator.forms import FeedMessage, FeedTransaction, created, encode, op_return
from txwatch.simulator.spending import UNLOCKING, Draft, sizes, unlock

outputs = st.lists(st.sampled_from(KINDS), min_size=1, max_size=300)


@given(
    way=st.sampled_from(sorted(UNLOCKING)),
    inputs=st.integers(1, 300),
    kinds=outputs,
    data=st.none() | st.binary(min_size=1, max_size=75),
    extra=st.integers(2, 5_000),
)
def test_fee_and_sizes_survive_the_message(
    way: str, inputs: int, kinds: list[str], data: bytes | None, extra: int
) -> None:
    draws, unlocking = Draws(np.random.default_rng(1)), UNLOCKING[way]
    paid = [make_addresses(kind, np.zeros((1, PROGRAM_BYTES[kind]), np.uint8))[0] for kind in kinds]
    out = [created(address.text, address.script, 1_000, n) for n, address in enumerate(paid)]
    if data is not None:
        out.append(op_return(data.hex()))
    coins = [created(paid[0].text, paid[0].script, 400_000) for _ in range(inputs)]
    size = sizes(unlocking, inputs, [o.script for o in out], extra if unlocking.witness_bytes else 0)
    draft = Draft(unlock(draws, coins, unlocking, rbf=True), out, size)
    body = FeedTransaction(0, 2, size.size, draft.inputs, 1, 0, inputs, "0" * 64, len(out), "0.0.0.0", out)
    transaction = read_transaction(encode(FeedMessage("utx", body)), T0)
    assert transaction is not None
    assert (transaction.weight, transaction.vsize, transaction.size) == (size.weight, size.vsize, size.size)
    assert transaction.fee_sat == draft.fee_sat == 400_000 * inputs - 1_000 * len(kinds)
    assert transaction.rbf


def test_legacy_coins_have_no_witness_and_nested_ones_have_both() -> None:
    script = [make_addresses("p2wpkh", np.zeros((1, 20), np.uint8))[0].script]
    assert sizes(UNLOCKING["p2pkh"], 1, script).witness == 0
    nested = sizes(UNLOCKING["p2sh"], 1, script)
    assert nested.base > sizes(UNLOCKING["p2wpkh"], 1, script).base
    assert nested.witness == sizes(UNLOCKING["p2wpkh"], 1, script).witness
