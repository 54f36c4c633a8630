"""Blocks as the REST API gives them, in all the forms that it has used."""

import json
from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.builders import pay, spend, utx
from txwatch.wire.blocks import (
    ListedBlock,
    decode_block,
    decode_block_transaction,
    decode_listing,
    is_coinbase,
)
from txwatch.wire.messages import MalformedMessageError, WireInput, WirePrevout, WireTransaction

LISTED = {"hash": "0a" * 32, "height": 834_637, "time": 1_710_376_406}
BLOCK = LISTED | {"prev_block": "0b" * 32, "n_tx": 1, "tx": [json.loads(utx())["x"]], "fee": 1_220}
NO_UTF8, TOO_DEEP = b'{"hash":"\xff"}', b'{"a":' + b"[" * 100_000


@pytest.mark.parametrize("body", [[LISTED | {"main_chain": True}], {"blocks": [LISTED]}])
def test_a_listing_is_read_in_both_of_its_forms(body: object) -> None:
    assert decode_listing(json.dumps(body).encode()) == [ListedBlock("0a" * 32, 834_637, 1_710_376_406)]


@pytest.mark.parametrize(
    "malformed",
    [LISTED | {"height": -1}, LISTED | {"height": None}, {"hash": "0c" * 32, "height": 3}, LISTED | {"hash": 7}, None],
)
def test_a_malformed_entry_does_not_spoil_a_listing(malformed: object) -> None:
    for body in ([LISTED, malformed], {"blocks": [malformed, LISTED]}):
        with capture_logs() as logs:
            assert decode_listing(json.dumps(body).encode()) == [ListedBlock("0a" * 32, 834_637, 1_710_376_406)]
        assert [(line["event"], line["log_level"], line["count"]) for line in logs] == [
            ("listed_blocks_left_out", "warning", 1)
        ]


def test_a_block_is_read_and_each_of_its_transactions_by_itself() -> None:
    block = decode_block(json.dumps(BLOCK | {"tx": [BLOCK["tx"][0], {"hash": "no"}], "n_tx": 2}).encode())
    assert (block.hash, block.prev_block, block.height, block.n_tx) == ("0a" * 32, "0b" * 32, 834_637, 2)
    tx = decode_block_transaction(block.tx[0])
    assert (tx.hash, tx.size, tx.time) == ("23" * 32, 192, 1_710_376_406)
    with pytest.raises(MalformedMessageError, match="hash"):
        decode_block_transaction(block.tx[1])


@pytest.mark.parametrize(
    ("decoder", "body", "reason"),
    [
        (decode_listing, b"[", "no listing of blocks: .*truncated"),
        (decode_listing, b'[{"hash":"0a"}]', "no listing of blocks: .*hash"),
        (decode_listing, json.dumps([LISTED | {"height": -1}]).encode(), "no listing of blocks: .*height"),
        (decode_listing, json.dumps([LISTED | {"hash": "0a" * 32 + "\n"}]).encode(), "no listing of blocks: .*hash"),
        (decode_listing, NO_UTF8, "no listing of blocks: "),
        (decode_listing, TOO_DEEP, "no listing of blocks: "),
        (decode_block, b"", "no block: .*truncated"),
        (decode_block, json.dumps(BLOCK | {"tx": None}).encode(), "no block: .*tx"),
        (decode_block, NO_UTF8, "no block: "),
        (decode_block, TOO_DEEP, "no block: "),
        (decode_block_transaction, b'{"hash":', "truncated"),
        (decode_block_transaction, NO_UTF8, "utf-8"),
        (decode_block_transaction, TOO_DEEP, "recursion"),
    ],
)
def test_what_is_no_block_is_refused_with_its_reason(
    decoder: Callable[[bytes], object], body: bytes, reason: str
) -> None:
    with pytest.raises(MalformedMessageError, match=reason):
        decoder(body)


@pytest.mark.parametrize(
    ("inputs", "coinbase"),
    [
        ([WireInput("", 0)], True),
        ([WireInput("", 0, WirePrevout(0, "", 0xFFFFFFFF))], True),
        ([WireInput("", 0, WirePrevout(10_740, "", 0))], False),
        ([WireInput("", 0), WireInput("", 0)], False),
        ([], False),
    ],
)
def test_a_coinbase_spends_no_output(inputs: list[WireInput], coinbase: bool) -> None:
    assert is_coinbase(WireTransaction("23" * 32, 192, inputs, [], 1, 0)) is coinbase


def test_more_than_a_block_or_a_day_can_hold_is_refused_whole() -> None:
    """Each part that is malformed is kept with its reason, and an answer has room for a hundred million."""
    header = {"hash": "a" * 64, "prev_block": "b" * 64, "height": 1, "time": 1, "n_tx": 100_000}
    with pytest.raises(MalformedMessageError, match="no block: Expected `array`"):
        decode_block(json.dumps(header | {"tx": [0] * 100_000}).encode())
    for listing in ([0] * 100_000, {"blocks": [0] * 100_000}):
        with pytest.raises(MalformedMessageError, match="no listing of blocks: Expected `array`"):
            decode_listing(json.dumps(listing).encode())


def test_a_coinbase_is_known_in_the_form_of_the_feed() -> None:
    body = json.loads(utx(inputs=[spend(None)], out=[pay()]))["x"]
    assert is_coinbase(decode_block_transaction(msgspec.Raw(json.dumps(body).encode())))
