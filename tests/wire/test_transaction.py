"""Exact fee and size from what the feed carries, and a reason for all that breaks the protocol."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import pay, spend, utx
from txwatch.wire.messages import (
    MAX_SUPPLY_SAT,
    BlockAnnouncement,
    MalformedMessageError,
    UnconfirmedTransaction,
    UnknownOperation,
    decode,
)
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction, from_wire

NOW = datetime(2024, 3, 14, 12, 0, 1, tzinfo=UTC)
DATA = Path(__file__).parents[3] / "shared/data"


def without(name: str, part: dict) -> dict:
    return {key: value for key, value in part.items() if key != name}


def spent(script: str) -> dict:
    """An input that spends an output of this locking script."""
    return spend() | {"prev_out": spend()["prev_out"] | {"script": script}}


def parse(body: bytes) -> Transaction:
    message = decode(body)
    assert isinstance(message, UnconfirmedTransaction)
    return from_wire(message.x, NOW)


def test_fee_weight_and_vsize_are_derived_from_the_message() -> None:
    tx = parse(utx())
    assert (tx.fee_sat, tx.weight, tx.vsize, tx.size) == (1_220, 441, 111, 192)
    assert tx.fee_rate == pytest.approx(1_220 / 111)
    assert tx.rbf
    assert tx.feed_time == datetime(2024, 3, 14, 0, 33, 26, tzinfo=UTC)
    assert [i.type for i in tx.inputs] == ["p2wpkh"]
    assert [o.type for o in tx.outputs] == ["p2sh"]


def test_an_unresolved_prevout_makes_the_fee_unknown_and_not_zero() -> None:
    tx = parse(utx(inputs=[spend(), spend(None)], vin_sz=2, size=400))
    assert tx.fee_sat is None
    assert tx.input_sat is None
    assert tx.fee_rate is None


def test_what_the_feed_resolved_is_kept_and_what_it_did_not_is_named_as_unknown() -> None:
    tx = parse(utx(inputs=[spend(), spend(None)], vin_sz=2, size=400))
    resolved = SpentOutput("bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm", 10_740, "p2wpkh", 0)
    assert tx.inputs == [resolved, SpentOutput(None, None, "other", 0)]
    assert tx.outputs == [CreatedOutput("395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3", 9_520, "p2sh", 0)]
    assert (tx.input_count, tx.output_count, tx.value_sat, tx.input_sat) == (2, 1, 9_520, None)
    assert parse(utx()).input_sat == 10_740


@pytest.mark.parametrize(
    ("sequences", "rbf"),
    [([0xFFFFFFFF], False), ([0xFFFFFFFE], False), ([0xFFFFFFFD], True), ([0], True), ([0xFFFFFFFE, 1], True)],
)
def test_replaceable_is_what_says_so_in_any_input(sequences: list[int], rbf: bool) -> None:
    """BIP 125: a sequence number below 0xFFFFFFFE."""
    inputs = [spend(sequence=sequence) for sequence in sequences]
    assert parse(utx(inputs=inputs, vin_sz=len(inputs), size=400)).rbf is rbf


def test_a_transaction_says_how_it_came() -> None:
    message = decode(utx())
    assert isinstance(message, UnconfirmedTransaction)
    assert from_wire(message.x, NOW).source == "feed"
    assert from_wire(message.x, NOW, "block").source == "block"


def test_all_bitcoin_that_can_exist_is_a_valid_amount() -> None:
    tx = parse(utx(inputs=[spend(MAX_SUPPLY_SAT)], out=[pay(MAX_SUPPLY_SAT)]))
    assert (tx.input_sat, tx.value_sat, tx.fee_sat) == (MAX_SUPPLY_SAT, MAX_SUPPLY_SAT, 0)


def test_null_time_and_missing_address_are_accepted() -> None:
    tx = parse(utx(time=None, out=[{"value": 9_520, "n": 0, "script": "6a0548656c6c6f"}], size=200))
    assert tx.feed_time is None
    assert (tx.outputs[0].addr, tx.outputs[0].type) == (None, "op_return")
    assert parse(utx(out=[pay() | {"addr": ""}])).outputs[0].addr is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"op":"utx","x":{"a":' + b"[" * 100_000, "not JSON"),
        (b"[1]", "object"),
        (b'{"x":{}}', "op"),
        (utx(hash="zz"), "hash"),
        (utx(hash="AB" * 32), "hash"),
        (utx(hash="ab" * 32 + "\n"), "hash"),
        (utx(size=...), "size"),
        (utx(size=0), "size"),
        (utx(size="192"), "size"),
        (utx(inputs=...), "inputs"),
        (utx(inputs=[], vin_sz=0), "no inputs"),
        (utx(out=[], vout_sz=0), "no outputs"),
        (utx(vin_sz=2), "vin_sz says 2, inputs are 1"),
        (utx(vout_sz=9), "vout_sz says 9"),
        (utx(out=[pay(-1)]), "value"),
        (utx(out=[pay(MAX_SUPPLY_SAT + 1)]), "value"),
        (utx(out=[pay(2**70)]), "value"),
        (utx(out=[pay(MAX_SUPPLY_SAT), pay(1)], vout_sz=2), "21 million"),
        (utx(inputs=[spend(MAX_SUPPLY_SAT), spend(1)], vin_sz=2, size=400), "21 million"),
        (utx(out=[pay(10_741)]), "exceed inputs of 10740"),
        (utx(size=80), "size 80 cannot hold"),
        (utx(size=84), "1 of witness"),
        (utx(out=[pay(script="6a0")]), "half a byte"),
        (utx(inputs=[spent("5102aaa"), spent("6a0")], vin_sz=2, size=400), "half a byte"),
        (utx(out=[pay(script="0014" + "zz" * 20)]), "not hex"),
        (utx(out=[pay(script="5120" + "é" * 64)]), "not hex"),
        (utx(out=[pay(script="6A00")]), "not hex"),
        (utx(out=[pay(script="6a0 0\n")]), "not hex"),
        (utx(inputs=[spend(script="00\n ")]), "not hex"),
        (utx(inputs=[spent("0014" + "g0" * 20)]), "not hex"),
        (utx(time=4_102_444_800), "2100"),
        (utx(lock_time=2**32), "lock_time"),
        (utx(lock_time=...), "lock_time"),
        (utx(ver=...), "ver"),
        (utx(inputs=[without("script", spend())]), r"`script` - at `\$\.x\.inputs\[0\]`"),
        (utx(inputs=[without("sequence", spend())]), "sequence"),
        (utx(inputs=[spend() | {"script": None}]), "script"),
        (utx(inputs=[spend() | {"prev_out": without("script", spend()["prev_out"])}]), r"prev_out`"),
        (utx(inputs=[spend() | {"prev_out": without("n", spend()["prev_out"])}]), "`n`"),
        (utx(out=[without("script", pay())]), r"`script` - at `\$\.x\.out\[0\]`"),
        (utx(out=[without("n", pay())]), "`n`"),
        (utx(out=[pay() | {"addr": "1a\0b"}]), r"addr '1a\\x00b'"),
        (utx(out=[pay() | {"addr": "1" * 10_000}]), "of 10000 characters"),
        (utx(out=[pay() | {"addr": "1\u00e4"}]), "no address's form"),
        (utx(out=[pay() | {"addr": "1 2"}]), "no address's form"),
        (utx(inputs=[spend() | {"prev_out": spend()["prev_out"] | {"addr": "\udc80"}}]), "not JSON"),
        (utx(inputs=[spend() | {"prev_out": spend()["prev_out"] | {"addr": "x" * 91}}]), "of 91 characters"),
    ],
)
def test_what_breaks_the_protocol_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessageError, match=reason):
        parse(body)


def test_an_operation_that_is_not_used_here_is_no_error() -> None:
    assert decode(b'{"op":"pong"}') == UnknownOperation("pong")


def test_a_block_announcement_is_decoded() -> None:
    message = decode(
        json.dumps({"op": "block", "x": {"hash": "00" * 32, "height": 834637, "time": 1, "nTx": 3}}).encode()
    )
    assert isinstance(message, BlockAnnouncement)
    assert (message.x.height, message.x.n_tx) == (834637, 3)


def serialized_size(inputs: list[dict], outputs: list[dict]) -> int:
    """An independent count: builds the bytes of the serialization without witness."""

    def compact(n: int) -> bytes:
        if n < 0xFD:
            return n.to_bytes(1, "little")
        return b"\xfd" + n.to_bytes(2, "little") if n <= 0xFFFF else b"\xfe" + n.to_bytes(4, "little")

    raw = b"\0" * 4 + compact(len(inputs))
    for i in inputs:
        script = bytes.fromhex(i["script"])
        raw += b"\0" * 36 + compact(len(script)) + script + b"\0" * 4
    raw += compact(len(outputs))
    for o in outputs:
        script = bytes.fromhex(o["script"])
        raw += b"\0" * 8 + compact(len(script)) + script
    return len(raw + b"\0" * 4)


@pytest.mark.parametrize("bytes_", [0, 1, 252, 253, 254, 65_535, 65_536])
@pytest.mark.parametrize("count", [1, 252, 253])
def test_lengths_take_the_bytes_of_their_size(bytes_: int, count: int) -> None:
    """Bitcoin writes a length in 1, 3 or 5 bytes: these are the last and first of each."""
    inputs = [spend(10_000, script="00" * bytes_)] + [spend(100) for _ in range(count - 1)]
    outputs = [pay(100, script="00" * bytes_)] + [pay(0) for _ in range(count - 1)]
    base = serialized_size(inputs, outputs)
    tx = parse(utx(inputs=inputs, out=outputs, vin_sz=count, vout_sz=count, size=base + 107))
    assert (tx.size, tx.weight) == (base + 107, 4 * base + 107)


scripts = st.one_of(st.binary(max_size=600), st.just(b"\0" * 70_000)).map(bytes.hex)


@given(
    inputs=st.lists(scripts, min_size=1, max_size=300),
    outputs=st.lists(scripts, min_size=1, max_size=300),
    witness=st.integers(2, 5_000),
)
def test_sizes_agree_with_the_bytes_of_the_serialization(inputs: list[str], outputs: list[str], witness: int) -> None:
    spends = [spend(100_000, script=s) for s in inputs]
    pays = [pay(100, script=s) for s in outputs]
    base = serialized_size(spends, pays)
    if base + witness > 4_000_000:
        return
    tx = parse(utx(inputs=spends, out=pays, vin_sz=len(spends), vout_sz=len(pays), size=base + witness))
    assert tx.weight == 4 * base + witness
    assert tx.vsize == (4 * base + witness + 3) // 4


@pytest.mark.skipif(not DATA.exists(), reason="the real captures are not beside the project")
@pytest.mark.parametrize("name", ["mempool-2024-03", "blocks-2011-2016"])
def test_fee_and_weight_are_exact_on_every_real_transaction(name: str) -> None:
    with gzip.open(DATA / f"{name}.jsonl.gz") as lines:
        for line in lines:
            tx, meta = parse(line), json.loads(line)["meta"]
            assert (tx.fee_sat, tx.weight) == (meta["fee"], meta["weight"]), tx.txid
