"""What became of alerted transactions, as updates of their alerts, and double spends, which are alerts themselves.

Updates are inserted once each. Which of them a message shows is decided when it is written (`select_sent_message`):
what no longer holds is left out, so that no message contradicts itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg.rows import dict_row

from txwatch.alerts.alert import Alert, is_late
from txwatch.alerts.store import AlertUpdate, insert_alerts, insert_updates, later_kinds, to_json
from txwatch.detection.conflicts import left_out
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason, btc
from txwatch.store.database import Connection, statement
from txwatch.store.transactions import read_named_transactions
from txwatch.wire.transaction import Transaction

ALERTED_WITHIN = timedelta(days=14)
"""Time after which nothing is said of an alert any more: an unconfirmed transaction lives no longer in a mempool."""
BURIED = 2
"""Blocks after that of a possible replacement, in which the replaced transaction could still have been mined."""
MADE_WITHIN = timedelta(days=1)
"""How long before a coin is spent others like it are looked for. All of them would take minutes."""
REPLACEMENT_WITHIN = timedelta(minutes=1)
"""How long the transaction that took another one's place is waited for: a source may tell of the removal first."""


def insert_chain_updates(connection: Connection, now: datetime) -> int:
    """Insert all that is known of alerts, in the caller's transaction. Returns how many updates.

    Of transactions without outpoints a replacement is a guess: another one was confirmed that seems to spend the coin,
    and many look alike. So it is only called possible, BURIED blocks later, and only for a coin like which there is no
    other.
    """
    said = insert_confirmation_updates(connection, now)
    alerted = connection.execute("SELECT alert_key FROM alerts WHERE created_at > %s", [now - ALERTED_WITHIN])
    said += _insert_removal_updates(connection, [key for (key,) in alerted], now)
    with connection.cursor(row_factory=dict_row) as cursor:
        select = statement("alerts", "select_conflicts")
        conflicts = cursor.execute(select, {"now": now, "buried": BURIED}).fetchall()
    if not conflicts:
        return said
    since = min(conflict["seen_at"] for conflict in conflicts) - MADE_WITHIN
    given = {"now": now, "since": since, "conflicts": to_json(conflicts)}
    return said + connection.execute(statement("alerts", "insert_replacements"), given).rowcount


def insert_confirmation_updates(connection: Connection, now: datetime) -> int:
    """Insert what blocks say of alerts: confirmed, no longer, again, or another spender of the coin was confirmed."""
    confirmed = connection.execute(statement("alerts", "insert_confirmations"), {"now": now}).rowcount
    return confirmed + connection.execute(statement("alerts", "insert_confirmed_instead"), {"now": now}).rowcount


def insert_removal_updates(connection: Connection, removed: Iterable[str], now: datetime) -> int:
    """Insert what is known of alerts of transactions that just left a mempool, or did in the last minute."""
    given = {"removed": list(removed), "since": now - REPLACEMENT_WITHIN}
    alerted = [key for (key,) in connection.execute(statement("alerts", "select_removed"), given)]
    return _insert_removal_updates(connection, alerted, now) if alerted else 0


def _insert_removal_updates(connection: Connection, alerted: Sequence[str], now: datetime) -> int:
    given = {"alert_keys": alerted, "now": now, "within": REPLACEMENT_WITHIN}
    replaced = connection.execute(statement("alerts", "select_replaced"), given).fetchall()
    stored = {tx.txid: tx for tx in read_named_transactions(connection, [txid for pair in replaced for txid in pair])}
    said = insert_updates(
        connection, [AlertUpdate(key, f"replaced_by:{by}", _replaced(key, by, stored), now) for key, by in replaced]
    )
    return said + connection.execute(statement("alerts", "insert_dropped"), given).rowcount


def _replaced(txid: str, by: str, stored: Mapping[str, Transaction]) -> str:
    text = f"❌ replaced by {by[:8]}…"
    before, after = stored.get(txid), stored.get(by)
    if before is None or after is None:
        return text
    if after.fee_sat is not None:
        text += f", fee {btc(after.fee_sat)}"
        if before.fee_sat is not None:
            more = after.fee_sat - before.fee_sat
            text += f" ({'+' if more >= 0 else ''}{btc(more)})"
    if left_out(before, frozenset()):
        others = left_out(before, {coin.addr for coin in after.outputs if coin.addr is not None})
        text += ", pays others" if others else ", pays the same receivers"
    return text


HELD_FOR = timedelta(seconds=10)
"""How long both sides of a double spend are held before it is one: relaying between nodes takes seconds."""
LOOKED_AT_EACH = ((timedelta(minutes=1), timedelta(hours=1)), (timedelta(seconds=1), timedelta(minutes=2)))
"""How often contested coins are looked at, and up to which age of their newest spender.

With a replacement a second the last hour takes 0.14 s, two minutes take 5 ms. The hour is for what comes late: after an
outage, or by a source that was resynced.
"""
FOLLOWED_WITHIN = timedelta(minutes=1)
"""How recently a source was followed for what it holds to be known."""


@dataclass
class DoubleSpends:
    """Raises the alerts of double spends. `chats` are those that get them."""

    chats: Sequence[str]
    _looked_at: dict[timedelta, datetime] = field(default_factory=dict, init=False)

    def raise_due(self, connection: Connection, heard: datetime, now: datetime) -> int:
        """Raise those that have lasted HELD_FOR by `heard`, until which all is landed. Returns how many.

        Each side is held by a source that never held the other one: it told of it, and neither of its removal nor of
        the other. Sources that have a gap now, or that tell of no removals, are not asked. There is one alert for a
        coin, of the later transaction; if that has an alert already, an update of it. In the caller's transaction.
        """
        for each, age in LOOKED_AT_EACH:
            before = self._looked_at.get(each)
            if before is None or abs(heard - before) >= each:
                self._looked_at |= dict.fromkeys([one for one, _ in LOOKED_AT_EACH if one <= each], heard)
                return _raise_due(connection, self.chats, heard, age, now)
        return 0


def _raise_due(connection: Connection, chats: Sequence[str], heard: datetime, age: timedelta, now: datetime) -> int:
    given = {
        "heard": heard,
        "since": heard - age,
        "held_since": heard - HELD_FOR,
        "followed_since": heard - FOLLOWED_WITHIN,
    }
    found = connection.execute(statement("alerts", "due_double_spends"), given).fetchall()
    if not found:
        return 0
    stored = {tx.txid: tx for tx in read_named_transactions(connection, list({t for row in found for t in row[2:4]}))}
    alerts: dict[str, Alert] = {}
    for prev_txid, vout, one, other, holders_of_one, holders_of_other in found:
        sides = [(stored[one], holders_of_one), (stored[other], holders_of_other)]
        (_, _), (later, _) = sides = sorted(sides, key=lambda side: (side[0].seen_at, side[0].txid))
        held = " and ".join(f"{_amounts(tx)} by {', '.join(holders)}" for tx, holders in reversed(sides))
        text = f"output {vout} of {prev_txid[:8]}… is spent twice; held are {held}"
        reason = Reason("double_spend", text, "value_sat", float(later.value_sat))
        late = is_late("feed", later.seen_at, now)
        alert = Alert(later.txid, ["double_spend"], Severity.critical, [reason], late, later.seen_at, now)
        alerts.setdefault(later.txid, alert)
    new = set(insert_alerts(connection, list(alerts.values()), chats))
    again = [update for alert in alerts.values() if alert.alert_key not in new for update in later_kinds(alert)]
    return len(new) + insert_updates(connection, again)


def _amounts(transaction: Transaction) -> str:
    rate = "fee unknown" if transaction.fee_rate is None else f"{transaction.fee_rate:,.1f} sat/vB"
    return f"{transaction.txid[:8]}… ({btc(transaction.value_sat)}, {rate})"
