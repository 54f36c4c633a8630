"""Check Bitcoin addresses of the main network, and name the address of a locking script.

Base58Check (P2PKH, P2SH), Bech32 (BIP 173, witness version 0) and Bech32m (BIP 350, later versions).
"""

from base64 import b32encode
from functools import cache, lru_cache, reduce
from hashlib import sha256
from typing import NamedTuple

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
BECH32_CONSTANT, BECH32M_CONSTANT = 1, 0x2BC830A3
"""The checksum of a whole address, for witness version 0 (BIP 173) and for later versions (BIP 350)."""
HUMAN_PART = (3, 3, 0, 2, 3)
"""`bc`, expanded."""
LONGEST_ADDRESS = 90
"""Characters, of Bech32 (BIP 173)."""


class Network(NamedTuple):
    """What the addresses of a network begin with: the version bytes of P2PKH and P2SH, and the text before the 1."""

    p2pkh: int
    p2sh: int
    human_part: str


MAIN, TEST, REGTEST = Network(0x00, 0x05, "bc"), Network(0x6F, 0xC4, "tb"), Network(0x6F, 0xC4, "bcrt")
NETWORKS = {"main": MAIN, "test": TEST, "testnet4": TEST, "signet": TEST, "regtest": REGTEST}
"""By the name that Bitcoin Core's getblockchaininfo gives the chain."""
_LONGEST_SCRIPT = 42
"""Bytes, of a script with an address: a witness version and a program of 40 bytes."""


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


def script_address(script: bytes, network: Network = MAIN) -> str | None:
    """The address of a locking script as Bitcoin Core names it (key_io.cpp), None if it has none.

    A witness program has one also where its version means nothing yet (BIP 141); a bare public key has none.
    """
    # The cache keeps no long script, which is data.
    return _address(script, network) if len(script) <= _LONGEST_SCRIPT else None


@lru_cache(maxsize=16_384)
def _address(script: bytes, network: Network) -> str | None:
    size = len(script)
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return _base58check(network.p2pkh, script[3:23])
    if size == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87:
        return _base58check(network.p2sh, script[2:22])
    if size >= 4 and script[1] == size - 2:
        if script[0] == 0 and size in (22, 34):
            return _segwit_address(network.human_part, 0, script[2:])
        if 0x51 <= script[0] <= 0x60:
            return _segwit_address(network.human_part, script[0] - 0x50, script[2:])
    return None


def _base58check(version: int, payload: bytes) -> str:
    raw = bytes([version]) + payload
    raw += sha256(sha256(raw).digest()).digest()[:4]
    number = int.from_bytes(raw)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(BASE58[digit])
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + "".join(reversed(digits))


def _segwit_address(human_part: str, version: int, program: bytes) -> str:
    # Base 32 has the same groups of five bits, and fills the last one with zeros too, but another alphabet.
    groups = bytes([version]) + b32encode(program).rstrip(b"=").translate(_FROM_BASE32)
    residue = _expanded(human_part)
    for value in groups + bytes(6):
        residue = (residue & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[residue >> 25]
    residue ^= BECH32M_CONSTANT if version else BECH32_CONSTANT
    groups += bytes([residue >> shift & 31 for shift in range(25, -1, -5)])
    return f"{human_part}1{groups.translate(_TO_BECH32).decode()}"


@cache
def _expanded(human_part: str) -> int:
    """The checksum after the text before the 1; there are as many as networks."""
    return reduce(polymod_step, (*(ord(c) >> 5 for c in human_part), 0, *(ord(c) & 31 for c in human_part)), 1)


_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_FROM_BASE32 = bytes.maketrans(_BASE32, bytes(range(32)))
_TO_BECH32 = bytes.maketrans(bytes(range(32)), BECH32.encode())
_FEEDBACK = [polymod_step(top << 25, 0) for top in range(32)]
"""What a step of the polymod adds, by the five bits that it shifts out."""
