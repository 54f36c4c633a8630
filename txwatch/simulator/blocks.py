"""A mined block, in the forms in which blockchain.info shows it.

Belongs here: field names and constants of a block. What is in it is decided in `chain.py`.
"""

from dataclasses import dataclass

import msgspec

_VERSION = 0x20000000
_BITS = 386_097_818


class BlockSummary(msgspec.Struct, frozen=True):
    """One entry of `/blocks/<ms>`."""

    hash: str
    height: int
    time: int
    block_index: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block without coinbase. `bodies` are the transactions' JSON objects `x`, in the order of `txids`."""

    hash: str
    prev_block: str
    height: int
    time: int
    """Unix seconds."""
    weight: int
    txids: tuple[str, ...]
    bodies: tuple[bytes, ...]

    @property
    def n_tx(self) -> int:
        return len(self.txids)

    def summary(self) -> BlockSummary:
        """As `/blocks/<ms>` lists it."""
        return BlockSummary(self.hash, self.height, self.time, self.height)

    def raw(self) -> bytes:
        """As `/rawblock/<hash>` gives it: with all transactions."""
        header = {
            "hash": self.hash,
            "ver": _VERSION,
            "prev_block": self.prev_block,
            "next_block": [],
            "time": self.time,
            "bits": _BITS,
            "n_tx": self.n_tx,
            "weight": self.weight,
            "block_index": self.height,
            "main_chain": True,
            "height": self.height,
        }
        return msgspec.json.encode(header)[:-1] + b',"tx":[' + b",".join(self.bodies) + b"]}"

    def announcement(self) -> bytes:
        """As the WebSocket announces it: no txids, an index of 0 for each transaction."""
        body = {
            "txIndexes": [0] * self.n_tx,
            "nTx": self.n_tx,
            "weight": self.weight,
            "blockIndex": self.height,
            "prevBlockIndex": self.height - 1,
            "height": self.height,
            "hash": self.hash,
            "version": _VERSION,
            "time": self.time,
            "bits": _BITS,
            "foundBy": {"description": "Unknown", "ip": "", "link": "", "time": 0},
        }
        return msgspec.json.encode({"op": "block", "x": body})
