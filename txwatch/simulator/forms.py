"""The feed's messages as it sends them: field names, order and constants of a recorded `utx`.

Belongs here: the outgoing form only. What the program reads of it is in `txwatch.wire.messages`, which is checked
against this form by the tests.
"""

import msgspec
from msgspec import UNSET, Struct, UnsetType

FINAL_SEQUENCE = 0xFFFFFFFF
RBF_SEQUENCE = 0xFFFFFFFD


class FeedOutput(Struct, gc=False):
    """An output, and the same object as `prev_out` when it is spent. `value` in satoshi; no `addr` for OP_RETURN."""

    spent: bool
    tx_index: int
    type: int
    addr: str | UnsetType
    value: int
    n: int
    script: str


class FeedInput(Struct, gc=False):
    sequence: int
    prev_out: FeedOutput | None
    script: str


class FeedTransaction(Struct, gc=False):
    lock_time: int
    ver: int
    size: int
    inputs: list[FeedInput]
    time: int
    tx_index: int
    vin_sz: int
    hash: str
    vout_sz: int
    relayed_by: str
    out: list[FeedOutput]


class FeedMessage(Struct, gc=False):
    op: str
    x: FeedTransaction


encode = msgspec.json.Encoder().encode


def created(addr: str | UnsetType, script: str, value: int, n: int = 0) -> FeedOutput:
    """A new output, not yet spent."""
    return FeedOutput(False, 0, 0, addr, value, n, script)


def op_return(data_hex: str) -> FeedOutput:
    """An OP_RETURN output that carries up to 75 bytes."""
    return created(UNSET, f"6a{len(data_hex) // 2:02x}{data_hex}", 0)
