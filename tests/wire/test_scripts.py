"""Locking scripts are of the type that Bitcoin Core's `Solver` says, and near misses are of none."""

import tracemalloc

import pytest

from txwatch.wire.transaction import SCRIPT_TYPES, script_type

HASH20, HASH32 = "d5" * 20, "d5" * 32
SHORT_KEY, LONG_KEY = "02" + HASH32, "04" + HASH32 * 2
SHORT, LONG = "21" + SHORT_KEY, "41" + LONG_KEY


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("76a914" + HASH20 + "88ac", "p2pkh"),
        ("a914" + HASH20 + "87", "p2sh"),
        ("0014" + HASH20, "p2wpkh"),
        ("0020" + HASH32, "p2wsh"),
        ("5120" + HASH32, "p2tr"),
        ("21" + SHORT_KEY + "ac", "p2pk"),
        ("41" + LONG_KEY + "ac", "p2pk"),
        ("5121" + SHORT_KEY + "51ae", "multisig"),
        ("5221" + SHORT_KEY + "21" + SHORT_KEY + "52ae", "multisig"),
        ("5341" + LONG_KEY + "41" + LONG_KEY + "41" + LONG_KEY + "53ae", "multisig"),
        ("54" + SHORT * 3 + LONG * 2 + "55ae", "multisig"),
        ("60" + SHORT * 16 + "60ae", "multisig"),
        ("52" + SHORT * 20 + "0114ae", "multisig"),
        ("0113" + LONG * 20 + "0114ae", "multisig"),
        ("51024e73", "p2a"),
        ("51024e74", "witness_unknown"),
        ("5220" + HASH32, "witness_unknown"),
        ("5220" + "d5" * 31 + "ae", "witness_unknown"),
        ("5314" + "d5" * 19 + "ae", "witness_unknown"),
        ("5114" + HASH20, "witness_unknown"),
        ("6028" + "d5" * 40, "witness_unknown"),
        ("21" + "03" + HASH32 + "ac", "p2pk"),
        ("6a", "op_return"),
        ("6a0548656c6c6f", "op_return"),
        # A data carrier may have the length and the end of another type.
        ("6a14" + HASH20, "op_return"),
        ("6a20" + HASH32, "op_return"),
        ("6a" + HASH20 + "4187", "op_return"),
        ("6a" + HASH20 + "414188ac", "op_return"),
        ("6a" + HASH32 + "41ac", "op_return"),
        ("6a" + HASH32 * 2 + "41ac", "op_return"),
        ("6a5121ae", "op_return"),
    ],
)
def test_the_standard_types(script: str, expected: str) -> None:
    assert script_type(script) == expected
    assert expected in SCRIPT_TYPES


@pytest.mark.parametrize(
    "script",
    [
        "",
        "ac",
        "ae",
        # One byte more or less.
        "76a914" + HASH20 + "0088ac",
        "a914" + HASH20 + "0087",
        "0014" + HASH20 + "00",
        "0020" + HASH32 + "00",
        "5120" + HASH32 + "00",
        "21" + SHORT_KEY + "00ac",
        "41" + LONG_KEY + "00ac",
        # Another last operation.
        "76a914" + HASH20 + "88ad",
        "a914" + HASH20 + "88",
        "21" + SHORT_KEY + "ad",
        "21" + SHORT_KEY + "ae",
        "41" + LONG_KEY + "ad",
        # Another first one.
        "0114" + HASH20,
        "76a814" + HASH20 + "88ac",
        "a814" + HASH20 + "87",
        "20" + SHORT_KEY + "ac",
        "40" + LONG_KEY + "ac",
        "51" + SHORT + "51af",
        # Other numbers of keys than it says, more wanted than there are, or more than can be.
        "51ae",
        "5151ae",
        "54" + SHORT + "54ae",
        "52" + SHORT + "51ae",
        "51" + SHORT * 2 + "51ae",
        "51" + SHORT + "52ae",
        "00" + SHORT + "51ae",
        "51" + SHORT + "61ae",
        "0101" + SHORT * 17 + "0111ae",
        "51" + SHORT * 21 + "0115ae",
        # What is no key.
        "21" + "05" + HASH32 + "ac",
        "41" + "02" + HASH32 * 2 + "ac",
        "51" + "21" + "05" + HASH32 + "51ae",
        "5121" + SHORT_KEY + "00" + "51ae",
        # A witness program of one byte, of more than 40, and of another length than it says.
        "510100",
        "5129" + "d5" * 41,
        "5214" + "d5" * 21,
        "0015" + "d5" * 21,
    ],
)
def test_what_is_nearly_of_a_type_is_of_none(script: str) -> None:
    assert script_type(script) == "other"


def test_long_scripts_do_not_stay_in_memory() -> None:
    tracemalloc.start()
    try:
        for n in range(100):
            assert script_type(f"6a{n:08x}" + "00" * 50_000) == "op_return"
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000, "one of them is 100 kB"
