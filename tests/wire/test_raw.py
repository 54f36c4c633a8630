"""Serialized transactions: decoded exactly, or refused with a reason, in a time that grows with their length."""

import time
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatch.wire.addresses import MAIN, REGTEST, AddressError, bitcoin_address, script_address
from txwatch.wire.messages import MAX_SUPPLY_SAT, MalformedMessageError
from txwatch.wire.raw import Coin, RawInput, RawOutput, decode_raw, from_raw
from txwatch.wire.transaction import UNCONFIRMED

NOW = datetime(2024, 3, 14, 12, tzinfo=UTC)
# BIP 143's P2WPKH example, signed: the second input has a witness.
SEGWIT = bytes.fromhex(
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830450221008b9d1dc26ba6a9cb"
    "62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3"
    "ed01eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976"
    "a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac"
    "000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90300e8f3358"
    "f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee635711000000"
)


def compact(n: int) -> bytes:
    if n < 0xFD:
        return bytes([n])
    size, first = (2, 0xFD) if n < 1 << 16 else (4, 0xFE) if n < 1 << 32 else (8, 0xFF)
    return bytes([first]) + n.to_bytes(size, "little")


def sized(part: bytes) -> bytes:
    return compact(len(part)) + part


def serialized(
    inputs: list[tuple[bytes, int, bytes, int]],
    outputs: list[tuple[int, bytes]],
    witness: list[list[bytes]] | None = None,
    version: int = 2,
    lock_time: int = 0,
) -> tuple[bytes, bytes]:
    """A transaction as it is sent, and without its witness."""
    body = compact(len(inputs))
    for txid, vout, script, sequence in inputs:
        body += txid[::-1] + vout.to_bytes(4, "little") + sized(script) + sequence.to_bytes(4, "little")
    body += compact(len(outputs))
    for value, script in outputs:
        body += value.to_bytes(8, "little") + sized(script)
    start, end = version.to_bytes(4, "little"), lock_time.to_bytes(4, "little")
    if witness is None:
        return (start + body + end,) * 2
    items = b"".join(compact(len(stack)) + b"".join(map(sized, stack)) for stack in witness)
    return start + b"\0\1" + body + items + end, start + body + end


numbers = st.integers(0, 2**32 - 1)
inputs = st.lists(st.tuples(st.binary(min_size=32, max_size=32), numbers, st.binary(max_size=300), numbers), min_size=1)
outputs = st.lists(
    st.tuples(st.integers(0, MAX_SUPPLY_SAT // 1_000), st.binary(max_size=300)), min_size=1, max_size=300
)


@st.composite
def transactions(draw: st.DrawFn) -> tuple[bytes, bytes, list, list]:
    ins, outs = draw(inputs), draw(outputs)
    witness = None
    if draw(st.booleans()):
        stacks = st.lists(st.binary(max_size=80), max_size=3)
        witness = [[b"\1"], *(draw(stacks) for _ in ins[1:])]
    return *serialized(ins, outs, witness, draw(numbers), draw(numbers)), ins, outs


@given(transactions())
def test_what_was_serialized_is_decoded(given: tuple[bytes, bytes, list, list]) -> None:
    whole, stripped, ins, outs = given
    tx = decode_raw(whole)
    assert tx.txid == sha256(sha256(stripped).digest()).digest()[::-1].hex()
    assert tx.inputs == [RawInput(txid.hex(), vout, sequence) for txid, vout, _, sequence in ins]
    assert tx.outputs == [RawOutput(*output) for output in outs]
    assert (tx.size, tx.weight) == (len(whole), 3 * len(stripped) + len(whole))


@given(transactions(), st.data())
def test_one_that_is_cut_is_refused(given: tuple[bytes, bytes, list, list], data: st.DataObject) -> None:
    whole = given[0]
    with pytest.raises(MalformedMessageError):
        decode_raw(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(MalformedMessageError, match="after its end"):
        decode_raw(whole + b"\0")


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_decoded_or_refused(body: bytes) -> None:
    try:
        tx = decode_raw(body)
    except MalformedMessageError:
        return
    assert tx.inputs


@given(transactions(), st.data())
def test_one_with_another_byte_is_decoded_or_refused(
    given: tuple[bytes, bytes, list, list], data: st.DataObject
) -> None:
    body = bytearray(given[0])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        tx = decode_raw(bytes(body))
    except MalformedMessageError:
        return
    assert tx.size == len(body)


def test_an_example_of_bip_143() -> None:
    tx = decode_raw(SEGWIT)
    assert (tx.version, tx.lock_time, tx.size) == (1, 17, len(SEGWIT))
    assert [spent.vout for spent in tx.inputs] == [0, 1]
    assert [output.value for output in tx.outputs] == [112_340_000, 223_450_000]


NOTHING = (b"\1" * 32, 0, b"", 0)
PLAIN = serialized([NOTHING], [(1, b"\x51")])[0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cut within the version"),
        (PLAIN[:4] + b"\0\0" + PLAIN[5:], "no inputs"),
        (PLAIN[:4] + b"\0\2" + PLAIN[4:], "witness flag 2 is unknown"),
        (serialized([NOTHING], [])[0], "no outputs"),
        (serialized([NOTHING], [(MAX_SUPPLY_SAT + 1, b"")])[0], "21 million"),
        (serialized([NOTHING], [(1, b"")], [[]])[0], "a witness without any item"),
        (PLAIN[:4] + b"\xfd\x01\x00" + PLAIN[5:], "the number of inputs of 1 is written in 2 bytes"),
        (PLAIN[:4] + b"\xff" + b"\xff" * 8 + PLAIN[5:], "do not fit"),
        (PLAIN[:4] + b"\xfe\xff\xff\xff\x7f" + PLAIN[5:], "2147483647 inputs do not fit into the"),
        (b"\0" * 4_000_001, "more than a block holds"),
        (serialized([NOTHING], [(1, b"\x6a" * 1_000_000)])[0], "weight 4000"),
    ],
)
def test_what_is_refused_has_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessageError, match=reason):
        decode_raw(body)


def test_a_coinbase_is_told() -> None:
    assert decode_raw(serialized([(b"\0" * 32, 0xFFFFFFFF, b"\3", 0)], [(1, b"")])[0]).is_coinbase
    assert not decode_raw(PLAIN).is_coinbase


@pytest.mark.parametrize(
    "body",
    [
        serialized([(n.to_bytes(32, "big"), 0, b"", 0) for n in range(20_000)], [(1, b"\x51")])[0],
        serialized([NOTHING], [(1, b"\x51")] * 90_000)[0],
        serialized([NOTHING], [(1, b"\x51")], [[b""] * 3_000_000])[0],
        serialized([NOTHING], [(1, b"\x6a" + b"\1" * 100_000)])[0],
    ],
    ids=["20,000 inputs", "90,000 outputs", "3,000,000 items of a witness", "100 kB of data"],
)
def test_the_largest_ones_take_a_few_seconds_at_most(body: bytes) -> None:
    began = time.process_time()
    tx = decode_raw(body)
    from_raw(tx, [Coin(10**9, b"\x51", 7)] * len(tx.inputs), NOW, 9)
    assert time.process_time() - began < 20


def test_the_fee_needs_every_coin_and_amounts_that_can_be() -> None:
    tx = decode_raw(serialized([NOTHING, NOTHING], [(900, b"\x51")])[0])
    coin = Coin(600, b"\x51", UNCONFIRMED)
    whole = from_raw(tx, [coin, coin], NOW, 9)
    assert (whole.fee_sat, whole.input_sat, whole.tip_height, whole.rbf) == (300, 1_200, 9, True)
    part = from_raw(tx, [coin, None], NOW, 9)
    assert (part.fee_sat, part.input_sat) == (None, None)
    assert (part.inputs[1].value, part.inputs[1].height, part.inputs[1].txid) == (None, None, "01" * 32)
    with pytest.raises(MalformedMessageError, match="exceed inputs of 200 sat"):
        from_raw(tx, [Coin(100, b"", 1)] * 2, NOW, 9)
    with pytest.raises(MalformedMessageError, match="21 million"):
        from_raw(tx, [Coin(MAX_SUPPLY_SAT, b"", 1)] * 2, NOW, 9)


@given(st.binary(min_size=2, max_size=40), st.integers(1, 16))
def test_a_witness_program_has_an_address_that_is_valid(program: bytes, version: int) -> None:
    script = bytes([0x50 + version, len(program)]) + program
    address = script_address(script)
    assert address is not None
    assert bitcoin_address(address) == address
    assert str(script_address(script, REGTEST)).startswith("bcrt1")


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32))
def test_every_hash_has_an_address_that_is_valid(short: bytes, long: bytes) -> None:
    scripts = (
        b"\x76\xa9\x14" + short + b"\x88\xac",
        b"\xa9\x14" + short + b"\x87",
        b"\0\x14" + short,
        b"\0\x20" + long,
        b"\x51\x20" + long,
    )
    addresses = [script_address(script) for script in scripts]
    assert [str(address)[:3] for address in addresses[2:]] == ["bc1"] * 3
    assert [str(address)[0] for address in addresses[:2]] == ["1", "3"]
    for address in addresses:
        assert bitcoin_address(str(address)) == address


@given(st.binary(max_size=60))
def test_a_script_of_any_kind_has_no_address_or_a_valid_one(script: bytes) -> None:
    address = script_address(script)
    try:
        assert address is None or bitcoin_address(address)
    except AddressError:
        pytest.fail(f"{script.hex()} became {address}")


def test_addresses_of_bip_173_and_350() -> None:
    program = bytes.fromhex("751e76e8199196d454941c45d1b3a323f1433bd6")
    assert script_address(b"\0\x14" + program, MAIN) == "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
    assert script_address(bytes.fromhex("51024e73")) == "bc1pfeessrawgf"
    assert script_address(b"\x21" + b"\2" * 33 + b"\xac") is None
    assert script_address(b"\x6a" * 100_000) is None
