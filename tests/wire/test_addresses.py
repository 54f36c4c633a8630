"""Addresses are those of the BIPs and of Bitcoin Core's tests, and no slip of the pen is one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatch.lab.simulator.addresses import ADDRESS_TYPES, PROGRAM_BYTES, make_address
from txwatch.wire.addresses import AddressError, bitcoin_address

VALID = [
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "1111111111111111111114oLvT2",
    "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
    # BIP 173 and BIP 350.
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "BC1SW50QGDZ25J",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    # Pay to anchor.
    "bc1pfeessrawgf",
]
INVALID = {
    "": "no Bitcoin address",
    "1": "no Bitcoin address",
    "satoshi": "no Bitcoin address",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb": "checksum",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a": "no Bitcoin address",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa ": "no Bitcoin address",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp": "checksum",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdQ": "no Bitcoin address",
    "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn": "no Bitcoin address",
    "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx": "no Bitcoin address",
    # BIP 350: the wrong one of the two checksums, a wrong version, wrong lengths, padding.
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd": "checksum",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL": "checksum",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh": "checksum",
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R": "witness program",
    "bc1pw5dgrnzv": "witness program",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav": "witness program",
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P": "witness program",
    "bc1gmk9yu": "no Bitcoin address",
    # A private key has the form, but is of another version.
    "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ": "no Bitcoin address",
}


@pytest.mark.parametrize("address", VALID)
def test_addresses_are_known(address: str) -> None:
    assert bitcoin_address(address) == (address.lower() if address.startswith("BC1") else address)


@pytest.mark.parametrize(("text", "reason"), INVALID.items(), ids=lambda value: value or "empty")
def test_what_is_no_address_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        bitcoin_address(text)


@given(
    st.sampled_from(ADDRESS_TYPES), st.binary(min_size=32, max_size=32), st.integers(0, 99), st.sampled_from("qpz9A1")
)
def test_no_slip_of_the_pen_is_an_address(kind: str, program: bytes, at: int, character: str) -> None:
    address = make_address(kind, program[: PROGRAM_BYTES[kind]]).text
    assert bitcoin_address(address) == address
    place = at % len(address)
    slip = address[:place] + character + address[place + 1 :]
    for wrong in (slip, address[:place] + address[place + 1 :]):
        if wrong != address:
            with pytest.raises(AddressError):
                bitcoin_address(wrong)


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(AddressError):
        assert len(bitcoin_address(text)) <= 90
