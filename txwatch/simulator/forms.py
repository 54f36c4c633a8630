"""The feed's messages as it sends them: field names, order and constants of a recorded `utx`.

Belongs here: the outgoing form only. What the program reads of it is in `txwatch.wire.messages`, which is checked
against this form by the tests.
"""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from txwatch.simulator.spending import FINAL_SEQUENCE, RBF_SEQUENCE, Coin, Draft, input_scripts


class FeedOutput(Struct, gc=False):
    """An output, and with `spent` what an input spends. `value` in satoshi; no `addr` for OP_RETURN."""

    spent: bool
    tx_index: int
    type: int
    addr: str | UnsetType
    value: int
    n: int
    script: str


class FeedInput(Struct, gc=False):
    sequence: int
    prev_out: FeedOutput
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


_encode = msgspec.json.Encoder().encode


def feed_message(draft: Draft, txid: str, time: int) -> bytes:
    """The `utx` message of a transaction that the feed saw at this time, Unix seconds."""
    sequence = RBF_SEQUENCE if draft.rbf else FINAL_SEQUENCE
    scripts = input_scripts(draft.unlocking, len(draft.coins), txid)
    transaction = FeedTransaction(
        lock_time=0,
        ver=draft.version,
        size=draft.sizes.size,
        inputs=[
            FeedInput(sequence, spent, script)
            for spent, script in zip(_outputs(draft.coins, spent=True), scripts, strict=True)
        ],
        time=time,
        tx_index=0,
        vin_sz=len(draft.coins),
        hash=txid,
        vout_sz=len(draft.outputs),
        relayed_by="0.0.0.0",  # noqa: S104 - what the feed sends, no address to bind to
        out=_outputs(draft.outputs, spent=False),
    )
    return _encode(FeedMessage("utx", transaction))


def _outputs(coins: list[Coin], *, spent: bool) -> list[FeedOutput]:
    return [FeedOutput(spent, 0, 0, coin.owner.text or UNSET, coin.value, coin.n, coin.owner.script) for coin in coins]
