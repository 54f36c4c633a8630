"""Valid mainnet addresses from their hashes, with the locking script of each.

Belongs here: base58check (P2PKH, P2SH), bech32 (BIP 173: P2WPKH, P2WSH) and bech32m (BIP 350: P2TR). Addresses are made
in blocks, because the simulator needs tens of thousands a second; one address is a block of one.
"""

from functools import cache
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

KINDS = ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr")
"""The script types that have an address; names as in `txwatch.wire.scripts`."""
PROGRAM_BYTES = {"p2pkh": 20, "p2sh": 20, "p2wpkh": 20, "p2wsh": 32, "p2tr": 32}

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_PAIRS = [a + b for a in _BASE58 for b in _BASE58]
_BASE58_VERSION = {"p2pkh": b"\x00", "p2sh": b"\x05"}
_BECH32 = np.frombuffer(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l", dtype=np.uint8)
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_GROUPS = 6
_BECH32_CONSTANT = 1
_BECH32M_CONSTANT = 0x2BC830A3
_WITNESS_VERSION = {"p2wpkh": 0, "p2wsh": 0, "p2tr": 1}


class Address(NamedTuple):
    """An address, its locking script in hex, and its script type."""

    text: str
    script: str
    kind: str


def make_addresses(kind: str, programs: npt.NDArray[np.uint8]) -> list[Address]:
    """The addresses of a block of hashes or witness programs, shape (n, 20) or (n, 32) by kind. Raises ValueError for
    another length."""
    if programs.shape[1] != PROGRAM_BYTES[kind]:
        raise ValueError(f"{kind} takes {PROGRAM_BYTES[kind]} bytes, got {programs.shape[1]}")
    rows = [row.tobytes() for row in programs]
    texts = _base58check(kind, rows) if kind in _BASE58_VERSION else _segwit(kind, programs)
    return [Address(text, locking_script(kind, row), kind) for text, row in zip(texts, rows, strict=True)]


def locking_script(kind: str, program: bytes) -> str:
    """The locking script (scriptPubKey) in hex."""
    match kind:
        case "p2pkh":
            return f"76a914{program.hex()}88ac"
        case "p2sh":
            return f"a914{program.hex()}87"
        case "p2wpkh":
            return f"0014{program.hex()}"
        case "p2wsh":
            return f"0020{program.hex()}"
        case "p2tr":
            return f"5120{program.hex()}"
    raise ValueError(f"{kind} has no address")


def _base58check(kind: str, hashes: list[bytes]) -> list[str]:
    version = _BASE58_VERSION[kind]
    texts = []
    for item in hashes:
        payload = version + item
        payload += sha256(sha256(payload).digest()).digest()[:4]
        number = int.from_bytes(payload)
        digits = []
        while number:
            number, pair = divmod(number, 58 * 58)
            digits.append(_BASE58_PAIRS[pair])
        leading_zeros = len(payload) - len(payload.lstrip(b"\0"))
        texts.append("1" * leading_zeros + "".join(reversed(digits)).lstrip("1"))
    return texts


def _segwit(kind: str, programs: npt.NDArray[np.uint8]) -> list[str]:
    version = _WITNESS_VERSION[kind]
    groups = _five_bit_groups(programs)
    constant, table = _checksum_table(version, groups.shape[1])
    checksums = constant ^ np.bitwise_xor.reduce(table[np.arange(groups.shape[1]), groups], axis=1)
    shifts = np.array([25, 20, 15, 10, 5, 0], dtype=np.uint32)
    tail = ((checksums[:, None] >> shifts) & 31).astype(np.uint8)
    characters = np.ascontiguousarray(_BECH32[np.hstack([groups, tail])])
    prefix = "bc1" + chr(_BECH32[version])
    return [prefix + row.tobytes().decode("ascii") for row in characters]


def _five_bit_groups(programs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Regroup bytes into 5-bit groups, the last one padded with zero bits."""
    bits = np.unpackbits(programs, axis=1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 5)))
    weights = np.array([16, 8, 4, 2, 1], dtype=np.uint8)
    groups: npt.NDArray[np.uint8] = bits.reshape(len(programs), -1, 5) @ weights
    return groups


@cache
def _checksum_table(version: int, groups: int) -> tuple[np.uint32, npt.NDArray[np.uint32]]:
    """What each data group adds to the checksum, and what is the same for all.

    The BCH code of BIP 173 is linear over GF(2), so the checksum of a block is an XOR of one table entry a group.
    """
    table = np.zeros((groups, 32), dtype=np.uint32)
    for value in range(32):
        residue = value
        for _ in range(_CHECKSUM_GROUPS):
            residue = _step(residue, 0)
        for position in reversed(range(groups)):
            table[position, value] = residue
            residue = _step(residue, 0)
    same = 1
    for value in (3, 3, 0, 2, 3, version, *[0] * (groups + _CHECKSUM_GROUPS)):  # "bc" expanded, then the data
        same = _step(same, value)
    return np.uint32(same ^ (_BECH32M_CONSTANT if version else _BECH32_CONSTANT)), table


def _step(residue: int, value: int) -> int:
    """One step of BIP 173's polymod."""
    top = residue >> 25
    residue = (residue & 0x1FFFFFF) << 5 ^ value
    for bit, generator in enumerate(_GENERATORS):
        if top >> bit & 1:
            residue ^= generator
    return residue
