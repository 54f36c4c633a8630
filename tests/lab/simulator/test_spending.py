"""The sizes that the simulator gives a transaction are those that the program derives from its message."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0
from txwatch.lab.simulator.addresses import ADDRESS_TYPES, PROGRAM_BYTES, make_address
from txwatch.lab.simulator.chain import read_transaction
from txwatch.lab.simulator.ordinary import op_return
from txwatch.lab.simulator.spending import UNLOCKING, Coin, Draft, Sizes, feed_message, sizes, sizes_of

outputs = st.lists(st.sampled_from(ADDRESS_TYPES), min_size=1, max_size=300)


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
    unlocking = UNLOCKING[way]
    paid = [make_address(kind, bytes(PROGRAM_BYTES[kind])) for kind in kinds]
    out = [Coin(address, 1_000, n) for n, address in enumerate(paid)]
    if data is not None:
        out.append(Coin(op_return(data.hex()), 0, len(out)))
    coins = [Coin(paid[0], 400_000)] * inputs
    digits = sum(len(o.owner.script) for o in out)
    extra = extra if unlocking.witness_bytes else 0
    size = Sizes(*sizes(unlocking.script_bytes, unlocking.witness_bytes, inputs, len(out), digits, extra))
    if not extra:
        assert size == sizes_of(unlocking, inputs, out)
    draft = Draft(coins, unlocking, True, out, size)
    transaction = read_transaction(feed_message(draft, "0" * 64, 1), T0)
    assert transaction is not None
    assert (transaction.weight, transaction.vsize, transaction.size) == (size.weight, size.vsize, size.size)
    assert transaction.fee_sat == draft.fee_sat == 400_000 * inputs - 1_000 * len(kinds)
    assert transaction.rbf


def test_legacy_coins_have_no_witness_and_nested_ones_have_both() -> None:
    paid = [Coin(make_address("p2wpkh", bytes(20)), 1_000)]
    assert sizes_of(UNLOCKING["p2pkh"], 1, paid).witness == 0
    nested = sizes_of(UNLOCKING["p2sh"], 1, paid)
    assert nested.base > sizes_of(UNLOCKING["p2wpkh"], 1, paid).base
    assert nested.witness == sizes_of(UNLOCKING["p2wpkh"], 1, paid).witness


def test_sizes_of_many_are_the_sizes_one_by_one() -> None:
    ways = list(UNLOCKING.values())
    columns = ([w.script_bytes for w in ways], [w.witness_bytes for w in ways], [1, 252, 253, 65_535, 65_536, 9, 2])
    outputs, digits = [253, 1, 70_000, 2, 3, 252, 1], [44, 46, 136_000, 68, 90, 11_000, 4]
    base, witness = sizes(*map(np.array, (*columns, outputs, digits)))
    one_by_one = [sizes(*row) for row in zip(*columns, outputs, digits, strict=True)]
    assert list(zip(base.tolist(), witness.tolist(), strict=True)) == one_by_one
