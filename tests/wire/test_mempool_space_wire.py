"""What mempool.space tells: outpoints, a fee and sizes that must agree with the parts, and each fault alone."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tests.builders import mempool_changes, mempool_input, mempool_output, mempool_transaction, utx
from txwatch.wire.mempool_space import (
    decode_block,
    decode_changes,
    decode_hash,
    decode_message,
    decode_transaction,
    decode_txids,
)
from txwatch.wire.messages import MAX_SUPPLY_SAT, MalformedMessageError, UnconfirmedTransaction, WireBlock, decode
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction, from_wire

NOW = datetime(2024, 3, 14, 12, 0, 1, tzinfo=UTC)
COIN = SpentOutput("bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm", 10_740, "p2wpkh", 3, "ab" * 32)


def parse(**changes: Any) -> Transaction:
    return decode_transaction(json.dumps(mempool_transaction(**changes)).encode(), NOW)


def test_it_tells_which_transaction_made_a_coin_and_not_how_old_it_is() -> None:
    tx = parse()
    assert tx.inputs == [COIN]
    assert (tx.inputs[0].height, tx.inputs[0].coinbase, tx.tip_height) == (None, None, None)
    assert tx.outputs == [CreatedOutput("395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3", 9_520, "p2sh", 0)]


def test_all_else_is_as_blockchain_info_tells_it() -> None:
    message = decode(utx())
    assert isinstance(message, UnconfirmedTransaction)
    other = from_wire(message.x, NOW)
    assert msgspec.structs.replace(parse(), inputs=other.inputs) == other


def test_a_coin_that_was_not_resolved_keeps_its_outpoint_and_makes_the_fee_unknown() -> None:
    tx = parse(vin=[mempool_input(None)], fee=0)
    assert tx.inputs == [SpentOutput(None, None, "other", 3, "ab" * 32)]
    assert (tx.fee_sat, tx.input_sat) == (None, None)


@pytest.mark.parametrize(
    ("first_seen", "expected"), [(..., None), (0, None), (1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))]
)
def test_the_time_of_entry_is_told_or_not(first_seen: Any, expected: datetime | None) -> None:
    assert parse(firstSeen=first_seen).feed_time == expected


@pytest.mark.parametrize("vsize", [..., 111, 110.25])
def test_vsize_is_rounded_up_or_a_fraction_or_not_told(vsize: Any) -> None:
    assert parse(vsize=vsize).vsize == 111


@pytest.mark.parametrize(("sequence", "rbf"), [(0xFFFFFFFF, False), (0xFFFFFFFE, False), (0xFFFFFFFD, True)])
def test_replaceable_is_what_says_so(sequence: int, rbf: bool) -> None:
    assert parse(vin=[mempool_input(sequence=sequence)]).rbf is rbf


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fee": 1_219}, "fee is told as 1219, inputs minus outputs are 1220"),
        ({"weight": 440}, "weight is told as 440, and is 441"),
        ({"size": 193}, "weight is told as 441"),
        ({"vsize": 110}, "vsize is told as 110, and is 111"),
        ({"vsize": 112}, "vsize is told as 112"),
        ({"vsize": 1e300}, "vsize is told"),
        ({"txid": "23" * 31}, "txid"),
        ({"txid": "23" * 32 + "\n"}, "txid"),
        ({"vin": []}, "no inputs"),
        ({"vout": []}, "no outputs"),
        ({"vin": [mempool_input(), mempool_input()], "size": 233, "weight": 605}, "spends a coin twice"),
        ({"vin": [mempool_input(is_coinbase=True)]}, "coinbase"),
        ({"vin": [mempool_input(txid="zz" * 32)]}, "txid"),
        ({"vin": [mempool_input(vout=-1)]}, "vout"),
        ({"vin": [mempool_input(scriptsig="0")]}, "half a byte"),
        ({"vin": [mempool_input(9_519)]}, "exceed inputs of 9519"),
        ({"vout": [mempool_output(MAX_SUPPLY_SAT + 1)]}, "value"),
        ({"vout": [mempool_output(scriptpubkey="zz" * 23)]}, "not hex"),
        ({"vout": [mempool_output(scriptpubkey_address="a\0b")]}, "no address's form"),
        ({"fee": -1}, "fee"),
        ({"fee": "1220"}, "fee"),
        ({"fee": ...}, "fee"),
        ({"firstSeen": 4_102_444_800}, "2100"),
    ],
)
def test_what_does_not_agree_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedMessageError, match=reason):
        parse(**changes)


def test_what_left_is_told_once_with_what_is_in_its_place() -> None:
    one, two, three = (f"{n:064x}" for n in (1, 2, 3))
    replaced = [{"replaced": one, "by": mempool_transaction(txid=three)}]
    body = decode_message(mempool_changes(7, removed=[one, two], replaced=replaced)).changes
    assert isinstance(body, msgspec.Raw)
    changes = decode_changes(body)
    assert changes.sequence == 7
    assert list(changes.removals()) == [(one, three), (two, None)]


def test_a_fault_in_what_left_spoils_nothing_else() -> None:
    one, two, three = (f"{n:064x}" for n in (1, 2, 3))
    replaced = [{"replaced": 1}, {"replaced": one, "by": {"txid": three}}]
    changes = decode_changes(json.dumps({"sequence": 1, "removed": ["", one, two], "replaced": replaced}).encode())
    told: list[tuple[str, str | None]] = []
    with pytest.raises(MalformedMessageError, match=r"no replacement.*and 1 more"):
        told.extend(changes.removals())
    assert told == [(one, three), (two, None)]


@pytest.mark.parametrize("part", ["added", "replaced", "removed", "mined"])
def test_a_message_of_nothing_but_parts_is_refused_whole(part: str) -> None:
    """Each part that is malformed would be quarantined, and a message has room for five million."""
    body = json.dumps({"sequence": 1, part: [""] * 400_000}).encode()
    with pytest.raises(MalformedMessageError, match=rf"array.*{part}"):
        decode_changes(body)


def test_one_message_can_hold_a_block_and_changes_and_each_is_read_alone() -> None:
    body = b'{"block":{"id":3},"mempool-transactions":{"sequence":1},"da":null}'
    message = decode_message(body)
    assert isinstance(message.changes, msgspec.Raw)
    assert isinstance(message.block, msgspec.Raw)
    assert decode_changes(message.changes).sequence == 1
    with pytest.raises(MalformedMessageError, match="no block"):
        decode_block(message.block)
    assert decode_message(b'{"pong":true}').changes is msgspec.UNSET


def test_the_answers_of_the_rest_api_are_read() -> None:
    block_hash = "00" * 32
    body = {"id": block_hash, "height": 834_637, "timestamp": 5, "tx_count": 3, "previousblockhash": "11" * 32}
    block = decode_block(json.dumps(body).encode())
    assert block.announcement == WireBlock(block_hash, 834_637, 5, 3)
    assert block.previousblockhash == "11" * 32
    assert decode_txids(json.dumps(["ab" * 32]).encode()) == ["ab" * 32]
    assert decode_hash(block_hash.encode() + b"\n") == block_hash


@pytest.mark.parametrize("decoder", [decode_message, decode_block, decode_txids, decode_hash, decode_changes])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1]", b"<html>", b'"', b'["ab"]', b"[" * 100_000, b'{"block":'])
def test_what_is_no_answer_is_refused(decoder: Any, body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decoder(body)
