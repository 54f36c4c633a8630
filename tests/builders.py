"""What tests are made of: valid transactions and feed messages, of which each test changes what it is about."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)


def transaction(**changes: Any) -> Transaction:
    """A stored transaction of one input and one output, with these fields changed."""
    values: dict[str, Any] = {
        "txid": f"{1:064x}",
        "seen_at": T0,
        "feed_time": None,
        "value_sat": 9_520,
        "input_sat": 10_740,
        "fee_sat": 1_220,
        "vsize": 111,
        "weight": 441,
        "size": 192,
        "input_count": 1,
        "output_count": 1,
        "rbf": True,
        "version": 2,
        "lock_time": 0,
        "inputs": [SpentOutput("bc1qspent", 10_740, "p2wpkh", 0)],
        "outputs": [CreatedOutput(None, 9_520, "op_return", 0)],
        "source": "feed",
    }
    return Transaction(**(values | changes))


def coin(txid: str, n: int = 0, value: int = 10_740, **changes: Any) -> SpentOutput:
    """Output `n` of transaction `txid` as a node tells it: of an address of its own."""
    known: dict[str, Any] = {"addr": f"bc1q{txid[-8:]}{n}", "type": "p2wpkh"} | changes
    return SpentOutput(value=value, n=n, txid=txid, **known)


def spending(txid: str, *coins: SpentOutput, pays: Sequence[tuple[str, int]] = (), **changes: Any) -> Transaction:
    """A transaction that spends these coins and pays these addresses and amounts; the fee is what is left."""
    total = sum(spent.value or 0 for spent in coins)
    pays = pays or [("bc1qpaid", total - 1_000)]
    value = sum(sat for _, sat in pays)
    given: dict[str, Any] = {
        "txid": txid,
        "value_sat": value,
        "input_sat": total,
        "fee_sat": total - value,
        "inputs": list(coins),
        "input_count": len(coins),
        "outputs": [CreatedOutput(addr, sat, "p2wpkh", n) for n, (addr, sat) in enumerate(pays)],
        "output_count": len(pays),
    }
    return transaction(**(given | changes))


def spend(value: int | None = 10_740, script: str = "", sequence: int = 0xFFFFFFFD) -> dict[str, Any]:
    """One input of a `utx`; `value` None leaves the spent output unresolved."""
    prevout = {
        "value": value,
        "n": 0,
        "addr": "bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm",
        "script": "0014" + "d5" * 20,
    }
    return {"sequence": sequence, "script": script, "prev_out": None if value is None else prevout}


def pay(value: int = 9_520, script: str = "a914" + "50" * 20 + "87") -> dict[str, Any]:
    """One output of a `utx`."""
    return {"value": value, "n": 0, "addr": "395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3", "script": script}


def utx(**changes: Any) -> bytes:
    """A feed message, the transaction 23f6ae50 of March 2024: 192 bytes, weight 441, fee 1,220 sat.

    `changes` replace fields of `x`; `...` leaves a field out.
    """
    x: dict[str, Any] = {
        "hash": "23" * 32,
        "ver": 2,
        "size": 192,
        "lock_time": 0,
        "time": 1710376406,
        "vin_sz": 1,
        "vout_sz": 1,
    }
    x |= {"inputs": [spend()], "out": [pay()], "relayed_by": "0.0.0.0", "tx_index": 0} | changes
    return json.dumps({"op": "utx", "x": {k: v for k, v in x.items() if v is not ...}}).encode()


def numbered_utx(n: int, **changes: Any) -> bytes:
    """A feed message like that of `utx` with a txid of its own."""
    return utx(hash=f"{n:064x}", **changes)


def labelled(message: bytes, *labels: str) -> bytes:
    """The message as a line of a capture that says what is known about it."""
    return json.dumps(json.loads(message) | {"meta": {"labels": labels}}).encode()


def mempool_input(value: int | None = 10_740, txid: str = "ab" * 32, vout: int = 3, **changes: Any) -> dict[str, Any]:
    """One input of a transaction of mempool.space; `value` None leaves the spent output unresolved."""
    prevout = {
        "scriptpubkey": "0014" + "d5" * 20,
        "scriptpubkey_type": "v0_p2wpkh",
        "scriptpubkey_address": "bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm",
        "value": value,
    }
    given = {"txid": txid, "vout": vout, "scriptsig": "", "sequence": 0xFFFFFFFD, "is_coinbase": False}
    return given | {"prevout": None if value is None else prevout} | changes


def mempool_output(value: int = 9_520, **changes: Any) -> dict[str, Any]:
    """One output of a transaction of mempool.space."""
    given = {"scriptpubkey": "a914" + "50" * 20 + "87", "scriptpubkey_address": "395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3"}
    return given | {"value": value} | changes


def mempool_transaction(**changes: Any) -> dict[str, Any]:
    """The transaction of `utx` as mempool.space tells it. `changes` replace fields; `...` leaves a field out."""
    tx: dict[str, Any] = {
        "txid": "23" * 32,
        "version": 2,
        "locktime": 0,
        "vin": [mempool_input()],
        "vout": [mempool_output()],
        "size": 192,
        "weight": 441,
        "sigops": 1,
        "fee": 1_220,
        "status": {"confirmed": False},
        "vsize": 111,
        "adjustedVsize": 110.25,
        "firstSeen": 1710376406,
    } | changes
    return {key: value for key, value in tx.items() if value is not ...}


def numbered_mempool_transaction(n: int, **changes: Any) -> dict[str, Any]:
    """The same with a txid, and a coin, of its own."""
    return mempool_transaction(txid=f"{n:064x}", **({"vin": [mempool_input(vout=n % 2**32)]} | changes))


def mempool_changes(sequence: int, **changes: Any) -> bytes:
    """A message of mempool.space with what changed in its mempool."""
    given = {"sequence": sequence, "added": [], "removed": [], "mined": [], "replaced": []} | changes
    return json.dumps({"mempool-transactions": given}).encode()
