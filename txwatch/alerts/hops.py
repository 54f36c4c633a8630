"""Where the coins of an alert go: each spend of the largest of them extends its message, hop by hop.

Who launders or pays out a large coin peels it: a part goes to somebody, the rest to a new address, from where it is
spent again within minutes (Meiklejohn et al., "A Fistful of Bitcoins", 2013; Kappos et al., "How to Peel a Million",
2022). A hop spends the coin that is followed, mostly, and leaves its largest output to be followed. The coin is known
by its outpoint; where a source does not tell outpoints, by its address, type, place and value, all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.alerts.messages import duration, ordinal
from txwatch.alerts.store import AlertUpdate, insert_updates, to_json
from txwatch.detection.reasons import btc
from txwatch.features.batch import TransactionBatch
from txwatch.features.transaction import likely_paid
from txwatch.store.database import Connection, read_rows, statement
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import CreatedOutput, Transaction

MOST_HOPS = 10
FOLLOWED_FOR = timedelta(days=1)
LEAST_SAT = SAT_PER_BTC
"""What is less is not followed."""
MOST_OUTPUTS = 3
"""Of a hop that leaves a rest: with more, the coin is spread."""


@dataclass(frozen=True)
class FollowedCoin:
    """Output `vout` of a transaction, `hop` hops after the alerted one, which was seen at `seen_at` (UTC)."""

    alert_key: str
    txid: str
    vout: int
    hop: int
    addr: str | None
    type: str
    value_sat: int
    seen_at: datetime

    def after(self, spender: Transaction, rest: CreatedOutput) -> "FollowedCoin":
        """The coin that a hop leaves."""
        return FollowedCoin(
            self.alert_key, spender.txid, rest.n, self.hop + 1, rest.addr, rest.type, rest.value, self.seen_at
        )


def follow_coins(connection: Connection, new: Sequence[Transaction], alerted: Iterable[str], now: datetime) -> int:
    """Follow the coins of those new transactions that were alerted, and tell the hops among all. Returns how many.

    In the caller's transaction.
    """
    spends = _Spends.of(new)
    keys = set(alerted)
    begun = [coin for tx in new if tx.txid in keys and (coin := _alerted_coin(tx)) is not None]
    reached, followed = [*begun, *_read_followed(connection, spends, now)], [*begun]
    told: dict[tuple[str, str], AlertUpdate] = {}
    while reached:
        coin = reached.pop()
        for spender in spends.of_coin(coin):
            # Each once for an alert: what look alike may seem to spend itself.
            if (place := (coin.alert_key, spender.txid)) in told or spender.txid == coin.txid:
                continue
            rest, what = _hop(coin, spender)
            text = f"⛓ {ordinal(coin.hop + 1)} hop, {duration(spender.seen_at - coin.seen_at)}, {what}"
            # One after the other, also if one batch tells several.
            at = now + timedelta(microseconds=coin.hop)
            told[place] = AlertUpdate(coin.alert_key, f"hop:{spender.txid}", text, at)
            if rest is not None and rest.value >= LEAST_SAT and coin.hop + 1 < MOST_HOPS:
                reached.append(coin.after(spender, rest))
                followed.append(reached[-1])
    if followed:
        connection.execute(statement("alerts", "insert_followed"), {"coins": to_json(followed)})
    return insert_updates(connection, told.values()) if told else 0


@dataclass(frozen=True)
class _Spends:
    """Which of the new transactions spend a coin: by its outpoint, or by how it looks where no outpoint is told."""

    by_outpoint: dict[tuple[str, int], list[Transaction]]
    by_look: dict[tuple[str, str, int, int | None], list[Transaction]]

    @classmethod
    def of(cls, new: Sequence[Transaction]) -> "_Spends":
        """Coins of too little value to be followed are left out."""
        spends = cls({}, {})
        for tx in new:
            for coin in tx.inputs:
                if coin.value is not None and coin.value < LEAST_SAT:
                    continue
                if coin.txid is not None:
                    spends.by_outpoint.setdefault((coin.txid, coin.n), []).append(tx)
                elif coin.addr is not None:
                    spends.by_look.setdefault((coin.addr, coin.type, coin.n, coin.value), []).append(tx)
        return spends

    def of_coin(self, coin: FollowedCoin) -> list[Transaction]:
        """Those that came after what was alerted. Of several that seem to spend it by its look, the first."""
        look = (coin.addr or "", coin.type, coin.vout, coin.value_sat)
        found = [*self.by_outpoint.get((coin.txid, coin.vout), ()), *self.by_look.get(look, ())[:1]]
        return [spender for spender in found if spender.seen_at >= coin.seen_at]


def _alerted_coin(tx: Transaction) -> FollowedCoin | None:
    """The largest output that likely moved, if it is large enough."""
    paid = [
        output
        for output, moved in zip(tx.outputs, likely_paid(TransactionBatch.of([tx])).tolist(), strict=True)
        if moved and output.value >= LEAST_SAT
    ]
    if not paid:
        return None
    coin = max(paid, key=lambda output: output.value)
    return FollowedCoin(tx.txid, tx.txid, coin.n, 0, coin.addr, coin.type, coin.value, tx.seen_at)


def _hop(coin: FollowedCoin, spender: Transaction) -> tuple[CreatedOutput | None, str]:
    """The coin that is left to follow, None for none, and what became of the one before."""
    outputs = [output for output in spender.outputs if output.type != "op_return"]
    if spender.input_sat is None or 2 * coin.value_sat < spender.input_sat:
        return None, "joined with other coins"
    if not outputs or len(outputs) > MOST_OUTPUTS:
        return None, f"spread over {len(outputs):,} outputs"
    rest = max(outputs, key=lambda output: output.value)
    return rest, f"{btc(rest.value)} left"


def _read_followed(connection: Connection, spends: _Spends, now: datetime) -> list[FollowedCoin]:
    given = {
        "txids": [txid for txid, _ in spends.by_outpoint],
        "addresses": [address for address, *_ in spends.by_look],
        "since": now - FOLLOWED_FOR,
    }
    if not given["txids"] and not given["addresses"]:
        return []
    return read_rows(connection, FollowedCoin, statement("alerts", "select_followed"), given)
