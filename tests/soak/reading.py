"""Reads from an installation's database what the accounting needs."""

from datetime import timedelta

from tests.soak.accounting import GapRow, Row
from tests.soak.messages import Delivery
from tests.soak.recorded_feed import fingerprint
from txwatch.clock import utc_now
from txwatch.store.database import Connection
from txwatch.store.transactions import read_transactions

_SLICE = timedelta(minutes=5)


def read_rows(connection: Connection) -> dict[str, Row]:
    """Every transaction that did not come with the history, by txid."""
    (first,) = connection.execute("SELECT min(seen_at) FROM transactions WHERE source <> 'bulk'").fetchone() or (None,)
    rows: dict[str, Row] = {}
    while first is not None and first < utc_now():
        for tx in read_transactions(connection, first, first + _SLICE):
            if tx.source != "bulk":
                assert tx.txid not in rows, "a txid twice"
                rows[tx.txid] = Row(tx.source, fingerprint(tx))
        first += _SLICE
    return rows


def read_gaps(connection: Connection) -> list[GapRow]:
    """The ledger of gaps."""
    rows = connection.execute("SELECT started_at, ended_at, cause, state, source FROM feed_gaps ORDER BY started_at")
    return [GapRow(*row) for row in rows]


def read_sighted(connection: Connection) -> dict[str, set[str]]:
    """The txids that each source told, by its name."""
    sighted: dict[str, set[str]] = {}
    for source, txid in connection.execute("SELECT source, txid FROM sightings"):
        sighted.setdefault(source, set()).add(txid)
    return sighted


def read_quarantined(connection: Connection) -> list[str]:
    """The bodies of all refused messages."""
    rows = connection.execute("SELECT body FROM quarantined_messages ORDER BY id")
    return [bytes(body).decode() for (body,) in rows]


def read_alert_kinds(connection: Connection) -> dict[str, list[str]]:
    """The kinds of every alert by its key."""
    return dict(connection.execute("SELECT alert_key, kinds FROM alerts").fetchall())


def read_deliveries(connection: Connection) -> list[Delivery]:
    """Every delivery."""
    rows = connection.execute(
        "SELECT alert_key, state, message_id, request_id, listed_in, reason FROM alert_deliveries ORDER BY alert_key"
    )
    return [Delivery(*row) for row in rows]
