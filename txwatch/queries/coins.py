"""The coins of a transaction, and what is known of them: whose they are, how old, and which are likely change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from txwatch.features.batch import TransactionBatch
from txwatch.features.transaction import likely_paid
from txwatch.labels.label import Known
from txwatch.labels.store import read_known
from txwatch.store.database import Connection
from txwatch.wire.transaction import UNCONFIRMED


@dataclass(frozen=True)
class Coin:
    """An input's spent output, or an output. `value` in satoshi, None where the source could not resolve it.

    Of a spent output also the transaction that made it, the height of its block, whether it is a coinbase coin and its
    age in blocks, 0 if it was unconfirmed: None where the source does not tell. `entity` is whom the address belongs to
    by the label of `label_source`, None without one. `likely_change` is a guess about outputs, None of inputs.
    """

    addr: str | None
    value: int | None
    type: str
    n: int
    txid: str | None = None
    height: int | None = None
    coinbase: bool | None = None
    age_blocks: int | None = None
    entity: str | None = None
    label_source: str | None = None
    likely_change: bool | None = None


def read_coins(
    connection: Connection,
    batch: TransactionBatch | None,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    tip_height: int | None,
) -> tuple[list[Coin], list[Coin]]:
    """The inputs and outputs of a transaction, which is also given as a batch of one, None if it is gone meanwhile.

    `tip_height` is that of the chain when it was seen.
    """
    spent, created = [_spent(coin, tip_height) for coin in inputs], [Coin(**coin) for coin in outputs]
    if batch is not None:
        paid = likely_paid(batch).tolist()
        created = [
            replace(coin, likely_change=not moved and coin.type != "op_return")
            for coin, moved in zip(created, paid, strict=True)
        ]
    known = read_known(connection, {coin.addr for coin in (*spent, *created) if coin.addr is not None})
    return [_labelled(coin, known) for coin in spent], [_labelled(coin, known) for coin in created]


def _spent(coin: Mapping[str, Any], tip_height: int | None) -> Coin:
    height = coin.get("height")
    age = None if height is None or tip_height is None else max(tip_height - height, 0)
    shown = None if height == UNCONFIRMED else height
    return Coin(**{**coin, "height": shown, "age_blocks": age})


def _labelled(coin: Coin, known: Mapping[str, Known]) -> Coin:
    if coin.addr is None or coin.addr not in known:
        return coin
    best = known[coin.addr].best
    return replace(coin, entity=best.entity, label_source=best.source)
