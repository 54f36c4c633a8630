"""Valid mainnet addresses from their hashes, with their locking scripts.

They are base58check (P2PKH, P2SH), bech32 (BIP 173: P2WPKH, P2WSH) and bech32m (BIP 350: P2TR).

Addresses are made in blocks, because the simulator needs tens of thousands a second.
"""

from functools import cache
from hashlib import sha256
from itertools import repeat

import msgspec
import numpy as np
import numpy.typing as npt

from txwatch.wire.addresses import BASE58, BECH32, BECH32_CONSTANT, BECH32M_CONSTANT, HUMAN_PART, polymod_step

PROGRAM_BYTES = {"p2pkh": 20, "p2sh": 20, "p2wpkh": 20, "p2wsh": 32, "p2tr": 32}
"""Bytes of the hash or witness program of each script type that has an address."""
ADDRESS_TYPES = tuple(PROGRAM_BYTES)
_SCRIPT_AROUND = {
    "p2pkh": ("76a914", "88ac"),
    "p2sh": ("a914", "87"),
    "p2wpkh": ("0014", ""),
    "p2wsh": ("0020", ""),
    "p2tr": ("5120", ""),
}
"""The hex digits before and after the program in a locking script."""

_BASE58 = np.frombuffer(BASE58.encode(), dtype=np.uint8)
_BASE58_VERSION = {"p2pkh": 0, "p2sh": 5}
_BECH32 = np.frombuffer(BECH32.encode(), dtype=np.uint8)
_CHECKSUM_GROUPS = 6
_WITNESS_VERSION = {"p2wpkh": 0, "p2wsh": 0, "p2tr": 1}


class Address(msgspec.Struct, frozen=True, gc=False):
    """A locking script in hex, its type as in `txwatch.wire.transaction`, and its address: None for an OP_RETURN."""

    text: str | None
    script: str
    type: str


def make_address(script_type: str, program: bytes) -> Address:
    """The address of one hash or witness program. Raises ValueError for a wrong length."""
    if len(program) != PROGRAM_BYTES[script_type]:
        raise ValueError(f"{script_type} takes {PROGRAM_BYTES[script_type]} bytes, got {len(program)}")
    return make_addresses(script_type, np.frombuffer(program, dtype=np.uint8).reshape(1, -1))[0]


def make_addresses(script_type: str, programs: npt.NDArray[np.uint8]) -> list[Address]:
    """The addresses of a block of hashes or witness programs, of shape (n, 20) or (n, 32) by type."""
    texts = _base58check(script_type, programs) if script_type in _BASE58_VERSION else _segwit(script_type, programs)
    before, after = _SCRIPT_AROUND[script_type]
    scripts = [before + program + after for program in _pieces(programs.tobytes().hex(), len(programs))]
    return list(map(Address, texts, scripts, repeat(script_type)))


def _pieces(text: str, n: int) -> list[str]:
    size = len(text) // n
    return [text[i : i + size] for i in range(0, len(text), size)]


def _base58check(script_type: str, hashes: npt.NDArray[np.uint8]) -> list[str]:
    payloads = np.pad(hashes, ((0, 0), (1, 0)), constant_values=_BASE58_VERSION[script_type])
    checksums = [sha256(sha256(row.tobytes()).digest()).digest()[:4] for row in payloads]
    numbers = np.hstack([payloads, np.frombuffer(b"".join(checksums), dtype=np.uint8).reshape(-1, 4)])
    texts = _pieces(_BASE58[_base58_digits(numbers)].tobytes().decode("ascii"), len(numbers))
    # Each leading zero byte becomes a "1". A checksum of zeros only is not expected.
    zeros = (numbers != 0).argmax(axis=1).tolist()
    return ["1" * n + text.lstrip("1") for n, text in zip(zeros, texts, strict=True)]


def _base58_digits(numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The digits of big-endian numbers of 25 bytes, the highest first, by long division of all numbers at once."""
    limbs = np.pad(numbers, ((0, 0), (3, 0))).view(">u4").T.astype(np.uint64, order="C")
    rests = np.zeros_like(limbs)
    # 58**5 is nearly 2**32: each division empties one limb, and its remainder is five digits.
    for emptied, rest in enumerate(rests[::-1]):
        for limb in limbs[emptied:]:
            dividend = (rest << 32) + limb
            limb[:] = dividend // 58**5
            rest[:] = dividend - limb * 58**5
    digits = np.empty((len(rests), 5, len(numbers)), dtype=np.uint8)
    shorter = rests.astype(np.uint32)
    for place in reversed(range(5)):
        digits[:, place] = shorter - shorter // 58 * 58
        shorter //= 58
    return digits.reshape(-1, len(numbers)).T


def _segwit(script_type: str, programs: npt.NDArray[np.uint8]) -> list[str]:
    version = _WITNESS_VERSION[script_type]
    groups = _five_bit_groups(programs)
    constant, table = _checksum_table(version, groups.shape[1])
    checksums = constant ^ np.bitwise_xor.reduce(table[np.arange(groups.shape[1]), groups], axis=1)
    shifts = np.array([25, 20, 15, 10, 5, 0], dtype=np.uint32)
    tail = ((checksums[:, None] >> shifts) & 31).astype(np.uint8)
    characters = _BECH32[np.hstack([groups, tail])].tobytes().decode("ascii")
    prefix = "bc1" + chr(_BECH32[version])
    return [prefix + text for text in _pieces(characters, len(programs))]


def _five_bit_groups(programs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Regroup bytes into 5-bit groups, the last one padded with zero bits."""
    bits = np.unpackbits(programs, axis=1)
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 5))).reshape(len(programs), -1, 5)
    groups: npt.NDArray[np.uint8] = bits[:, :, 0]
    for place in range(1, 5):
        groups = np.left_shift(groups, 1, dtype=np.uint8) | bits[:, :, place]
    return groups


@cache
def _checksum_table(version: int, groups: int) -> tuple[np.uint32, npt.NDArray[np.uint32]]:
    """The constant part of the checksum, and what each value of each data group adds to it.

    The BCH code of BIP 173 is linear over GF(2), so a checksum is the XOR of one table entry for each group.
    """
    table = np.zeros((groups, 32), dtype=np.uint32)
    for value in range(32):
        residue = value
        for _ in range(_CHECKSUM_GROUPS):
            residue = polymod_step(residue, 0)
        for position in reversed(range(groups)):
            table[position, value] = residue
            residue = polymod_step(residue, 0)
    same = 1
    for value in (*HUMAN_PART, version, *[0] * (groups + _CHECKSUM_GROUPS)):
        same = polymod_step(same, value)
    return np.uint32(same ^ (BECH32M_CONSTANT if version else BECH32_CONSTANT)), table
