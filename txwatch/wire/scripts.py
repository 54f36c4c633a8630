"""Which kind of output a locking script (scriptPubKey) makes, from its hex form."""

from functools import lru_cache

SCRIPT_TYPES = ("p2pk", "p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr", "multisig", "op_return", "other")
"""The standard output types of Bitcoin Core's `Solver`, and "other". The order is the code in columnar form."""


LONGEST_KEPT = 256
"""Hex digits: longer than every script that is made again and again. With them the memory is about 25 MB at most."""


def script_type(script: str) -> str:
    """The type of a locking script given in hex, one of SCRIPT_TYPES."""
    return _kept_type(script) if len(script) <= LONGEST_KEPT else _type(script)


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
    if (n == 70 and script.startswith("21")) or (n == 134 and script.startswith("41")):
        return "p2pk" if script.endswith("ac") else "other"
    if script.endswith("ae") and script[:2] in {"51", "52", "53"}:
        return "multisig"
    return "other"


_kept_type = lru_cache(maxsize=65_536)(_type)
