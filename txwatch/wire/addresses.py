"""Check Bitcoin addresses of the main network.

Base58Check (P2PKH, P2SH), Bech32 (BIP 173, witness version 0) and Bech32m (BIP 350, later versions).
"""

from functools import reduce
from hashlib import sha256

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
BECH32_CONSTANT, BECH32M_CONSTANT = 1, 0x2BC830A3
"""The checksum of a whole address, for witness version 0 (BIP 173) and for later versions (BIP 350)."""
HUMAN_PART = (3, 3, 0, 2, 3)
"""`bc`, expanded."""
LONGEST_ADDRESS = 90
"""Characters, of Bech32 (BIP 173)."""


class AddressError(ValueError):
    """A text that is no address; the message says why."""


def bitcoin_address(text: str) -> str:
    """The address as transactions name it: Bech32 may be in capitals, as in QR codes. Raises AddressError."""
    if len(text) <= LONGEST_ADDRESS and text[:3].lower() == "bc1" and text in (text.lower(), text.upper()):
        _check_segwit(text.lower())
        return text.lower()
    if 25 <= len(text) <= 35 and text[0] in "13" and all(c in BASE58 for c in text):
        _check_base58(text)
        return text
    raise AddressError(f"{text[:100]!r} is no Bitcoin address")


def _check_base58(text: str) -> None:
    number = 0
    for character in text:
        number = number * 58 + BASE58.index(character)
    raw = bytes(len(text) - len(text.lstrip("1"))) + number.to_bytes((number.bit_length() + 7) // 8)
    if sha256(sha256(raw[:-4]).digest()).digest()[:4] != raw[-4:]:
        raise AddressError(_wrong_checksum(text))
    if len(raw) != 25 or raw[0] not in {0x00, 0x05}:  # P2PKH, P2SH
        raise AddressError(f"{text!r} is no address of Bitcoin's main network")


def _check_segwit(text: str) -> None:
    places = [BECH32.find(character) for character in text[3:]]
    if -1 in places or len(places) < 8:
        raise AddressError(f"{text!r} is no Bitcoin address")
    version = places[0]
    if reduce(polymod_step, [*HUMAN_PART, *places], 1) != (BECH32M_CONSTANT if version else BECH32_CONSTANT):
        raise AddressError(_wrong_checksum(text))
    size, padding = divmod(5 * (len(places) - 7), 8)
    unused = places[-7] & ((1 << padding) - 1)
    known = size in (20, 32) if version == 0 else 2 <= size <= 40
    if version > 16 or not known or padding > 4 or unused:
        raise AddressError(f"{text!r} is no address of a witness program")


def polymod_step(residue: int, value: int) -> int:
    """The checksum after one more group of five bits: a step of BIP 173's polymod."""
    top = residue >> 25
    residue = (residue & 0x1FFFFFF) << 5 ^ value
    for bit, generator in enumerate(_GENERATORS):
        if top >> bit & 1:
            residue ^= generator
    return residue


def _wrong_checksum(text: str) -> str:
    return f"{text!r} is no Bitcoin address: its checksum is wrong, a character is missing or another one"
