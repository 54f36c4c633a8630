"""Addresses are the real encodings of their hashes."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatch.lab.simulator.addresses import ADDRESS_TYPES, PROGRAM_BYTES, make_address, make_addresses
from txwatch.wire.transaction import script_type

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("kind", "program", "address"),
    [
        # Bitcoin Core's key_io_valid.json
        ("p2pkh", "65a16059864a2fdbc7c99a4723a8395bc6f188eb", "1AGNa15ZQXAZUgFiqJ2i7Z2DPU2J6hW62i"),
        ("p2sh", "f815b036d9bbbce5e9f2a00abd1bf3dc91e95510", "3QJmV3qfvL9SuYo34YihAf3sRCW3qSinyC"),
        # the genesis block, and a hash of nothing but leading zeros
        ("p2pkh", "62e907b15cbf27d5425399ebf6f0fb50ebb88f18", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("p2pkh", "00" * 20, "1111111111111111111114oLvT2"),
        # BIP 173
        ("p2wpkh", "751e76e8199196d454941c45d1b3a323f1433bd6", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (
            "p2wsh",
            "1863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
            "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
        ),
        # BIP 350
        (
            "p2tr",
            "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        ),
    ],
)
def test_published_examples(kind: str, program: str, address: str) -> None:
    made = make_address(kind, bytes.fromhex(program))
    assert made.text == address
    assert script_type(made.script) == kind
    assert program in made.script


@given(st.sampled_from(["p2pkh", "p2sh"]), st.integers(0, 19), st.binary(min_size=20, max_size=20))
def test_base58_reads_back_with_a_right_checksum(kind: str, zeros: int, program: bytes) -> None:
    program = bytes(zeros) + program[zeros:]
    text = make_address(kind, program).text
    number = 0
    for digit in text:
        number = number * 58 + BASE58.index(digit)
    payload = number.to_bytes(25)
    assert payload[:21] == {"p2pkh": b"\x00", "p2sh": b"\x05"}[kind] + program
    assert payload[21:] == sha256(sha256(payload[:21]).digest()).digest()[:4]
    leading_zeros = len(payload) - len(payload.lstrip(b"\0"))
    assert len(text) - len(text.lstrip("1")) == leading_zeros


@pytest.mark.parametrize("kind", ADDRESS_TYPES)
def test_a_block_of_addresses_is_the_addresses_one_by_one(kind: str) -> None:
    programs = np.random.default_rng(1).integers(0, 256, (50, PROGRAM_BYTES[kind]), dtype=np.uint8)
    block = make_addresses(kind, programs)
    assert block == [make_address(kind, row.tobytes()) for row in programs]
    assert len({a.text for a in block}) == len(block)


def test_a_hash_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="p2tr takes 32 bytes, got 20"):
        make_address("p2tr", bytes(20))


def test_the_feeds_own_addresses_are_reproduced(shared_data: Path) -> None:
    coins = []
    for line in (shared_data / "recorded-utx.jsonl").read_text().splitlines():
        body = json.loads(line)["x"]
        coins += [i["prev_out"] for i in body["inputs"]] + body["out"]
    cut = {"p2pkh": (6, -4), "p2sh": (4, -2), "p2wpkh": (4, None), "p2wsh": (4, None), "p2tr": (4, None)}
    assert coins
    for coin in coins:
        kind = script_type(coin["script"])
        assert make_address(kind, bytes.fromhex(coin["script"][slice(*cut[kind])])).text == coin["addr"]
