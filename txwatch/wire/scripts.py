"""Which kind of output a locking script (scriptPubKey) makes, from its hex form."""

import re
from functools import lru_cache

SCRIPT_TYPES = (
    "p2pk",
    "p2pkh",
    "p2sh",
    "p2wpkh",
    "p2wsh",
    "p2tr",
    "p2a",
    "witness_unknown",
    "multisig",
    "op_return",
    "other",
)
"""The output types of Bitcoin Core's `Solver`, and "other". The order is the code in columnar form."""

_P2A = "51024e73"
_KEY = "(?:21(?:02|03)[0-9a-f]{64}|41(?:04|06|07)[0-9a-f]{128})"
_P2PK = re.compile(_KEY + "ac")
_NUMBERS = {f"{0x50 + n:02x}": n for n in range(1, 17)} | {f"01{n:02x}": n for n in range(17, 21)}
"""How a script says how many keys there are: OP_1 to OP_16, and above that a byte that is pushed."""
_MULTISIG = re.compile(f"({'|'.join(_NUMBERS)})({_KEY}{{1,20}})({'|'.join(_NUMBERS)})ae")
_LONGEST_MULTISIG = 2 * (2 + 20 * 66 + 2 + 1)
_WITNESS_VERSIONS = frozenset(f"{0x50 + n:02x}" for n in range(1, 17))
_REMEMBERED = 256


def script_type(script: str) -> str:
    """The type of a locking script given in hex, one of SCRIPT_TYPES."""
    # Longer ones are data of one output, which no other repeats: the memory would be theirs.
    return _remembered_type(script) if len(script) <= _REMEMBERED else _type(script)


def _type(script: str) -> str:
    n = len(script)
    if n == 44 and script.startswith("0014"):
        return "p2wpkh"
    if n == 68 and script.startswith("5120"):
        return "p2tr"
    if n == 46 and script.startswith("a914") and script.endswith("87"):
        return "p2sh"
    if n == 50 and script.startswith("76a914") and script.endswith("88ac"):
        return "p2pkh"
    if n == 68 and script.startswith("0020"):
        return "p2wsh"
    if script.startswith("6a"):
        return "op_return"
    if script == _P2A:
        return "p2a"
    if _is_unknown_witness(script):
        return "witness_unknown"
    if _P2PK.fullmatch(script):
        return "p2pk"
    return "multisig" if _is_multisig(script) else "other"


_remembered_type = lru_cache(maxsize=65_536)(_type)


def _is_unknown_witness(script: str) -> bool:
    """A later version and one push of 2 to 40 bytes, which is all there is (BIP 141)."""
    if not 8 <= len(script) <= 84 or script[:2] not in _WITNESS_VERSIONS:
        return False
    return script[2:4] == f"{len(script) // 2 - 2:02x}"


def _is_multisig(script: str) -> bool:
    """As many keys as it says, and no more of them wanted than there are."""
    if len(script) > _LONGEST_MULTISIG or not (match := _MULTISIG.fullmatch(script)):
        return False
    wanted, keys, given = match.groups()
    return _NUMBERS[wanted] <= _NUMBERS[given] == len(re.findall(_KEY, keys))
