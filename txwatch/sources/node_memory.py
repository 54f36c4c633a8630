"""What a node has told lately: the transactions of its mempool, and those that left it and wait for an explanation."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from txwatch.wire.raw import Coin, Outpoint, RawOutput, RawTransaction, decode_raw
from txwatch.wire.transaction import UNCONFIRMED

MAX_BYTES = 64 << 20
"""Bytes of serialized transactions that are remembered, the newest: of some hours, at ordinary rates."""


class _Remembered(msgspec.Struct):
    body: bytes
    height: int = UNCONFIRMED
    in_mempool: bool = True


class Replaced(NamedTuple):
    """A transaction left the mempool at a moment for another that spends one of its coins."""

    txid: str
    at: datetime
    by: str


class Unexplained(NamedTuple):
    """A transaction that left the mempool at a moment, with the coins that it spent; none if it is not remembered."""

    txid: str
    at: datetime
    outpoints: Sequence[Outpoint]


class NodeMemory:
    """Recent transactions of one node, within MAX_BYTES.

    `is_sound` is False from when the node may have told something that was not heard until its mempool was read.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: dict[str, _Remembered] = {}
        self._unexplained: dict[str, Unexplained] = {}
        self._claimed: dict[Outpoint, str] = {}
        self.is_sound = True

    def enter(self, tx: RawTransaction, body: bytes) -> list[Replaced]:
        """Note that a transaction is in the mempool. Returns those that left it for this one."""
        self._drop(tx.txid)
        self._known[tx.txid] = _Remembered(body)
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._known)))
        # It came back: there is nothing to explain.
        self._explain(tx.txid)
        return self.replaced_by(tx) if self._claimed else []

    def replaced_by(self, tx: RawTransaction) -> list[Replaced]:
        """The unexplained transactions that spent a coin which this one spends; they are explained by that."""
        replaced = []
        for spent in tx.inputs:
            txid = self._claimed.get((spent.txid, spent.vout))
            if txid is not None and txid != tx.txid:
                replaced.append(Replaced(txid, self._unexplained[txid].at, tx.txid))
                self._explain(txid)
        return replaced

    def _drop(self, txid: str) -> None:
        if (known := self._known.pop(txid, None)) is not None:
            self._bytes -= len(known.body)

    def leave(self, txid: str, at: datetime) -> None:
        """Note that a transaction left the mempool without a block."""
        known = self._known.get(txid)
        outpoints: list[Outpoint] = []
        if known is not None:
            known.in_mempool = False
            outpoints = [(spent.txid, spent.vout) for spent in decode_raw(known.body).inputs]
        self._unexplained[txid] = Unexplained(txid, at, outpoints)
        self._claimed.update(dict.fromkeys(outpoints, txid))

    @property
    def has_unexplained(self) -> bool:
        """Whether a transaction left, and it is not known why."""
        return bool(self._unexplained)

    def take_unexplained(self, until: datetime) -> list[Unexplained]:
        """What left the mempool until a moment and was replaced by nothing that was heard of. It is told only once."""
        due = [one for one in self._unexplained.values() if one.at <= until or not one.outpoints]
        for one in due:
            self._explain(one.txid)
        return due

    def _explain(self, txid: str) -> None:
        if (left := self._unexplained.pop(txid, None)) is not None:
            for outpoint in left.outpoints:
                if self._claimed.get(outpoint) == txid:
                    del self._claimed[outpoint]

    def mine(self, txids: Sequence[str], height: int) -> int | None:
        """Note that a block of this height took these transactions, of which the first is its coinbase.

        Returns how many left the mempool by that; None if one is not remembered, which may have been there.
        """
        left, known_all = 0, True
        for place, txid in enumerate(txids):
            known = self._known.get(txid)
            if known is not None:
                left += known.in_mempool
                known.height, known.in_mempool = height, False
            elif place > 0:
                known_all = False
            self._explain(txid)
        return left if known_all else None

    def unmine(self, height: int) -> None:
        """Note that the chain is no longer as high as this."""
        for known in self._known.values():
            if height <= known.height < UNCONFIRMED:
                known.height = UNCONFIRMED

    def outputs(self, txid: str) -> tuple[list[RawOutput], int] | None:
        """The outputs of a transaction, and the height of its block; None if it is not remembered, or in doubt."""
        known = self._known.get(txid) if self.is_sound else None
        return None if known is None else (decode_raw(known.body).outputs, known.height)

    def holds(self, txid: str) -> bool:
        """Whether a transaction is remembered."""
        return txid in self._known

    def in_mempool(self) -> set[str]:
        """The txids that are in the mempool by what was heard."""
        return {txid for txid, known in self._known.items() if known.in_mempool}

    def coins(self, transactions: Collection[RawTransaction]) -> dict[Outpoint, Coin]:
        """The coins that these spend and remembered transactions made, by outpoint."""
        coins: dict[Outpoint, Coin] = {}
        made: dict[str, tuple[list[RawOutput], int] | None] = {}
        for tx in transactions:
            for txid, vout, _ in tx.inputs:
                if txid not in made:
                    made[txid] = self.outputs(txid)
                if (found := made[txid]) is not None and vout < len(found[0]):
                    coins[txid, vout] = Coin(*found[0][vout], found[1])
        return coins
