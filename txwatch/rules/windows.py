"""Rules on stored windows: the features as they were computed, and what was found then.

The window lane judges what the live lane had missed, each transaction by the rules that held when it landed, and the
dry run judges the past by a rule that never held.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from psycopg import sql

from txwatch.clock import WINDOW
from txwatch.features.batch import Flags, TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.rules.conditions import may_fit
from txwatch.rules.evaluate import Match, RuleSet, Traffic
from txwatch.rules.look_ups import LookUps
from txwatch.rules.matches import record_matches
from txwatch.rules.store import InForce, rules_since, switch_off
from txwatch.store.database import Connection, statement
from txwatch.store.transactions import read_named_transactions

_CANDIDATES = sql.SQL(
    "SELECT txid, {columns} FROM transaction_features AS features"
    " WHERE seen_at >= {start} AND seen_at < {end} AND {condition} ORDER BY seen_at, txid"
)
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))


def read_candidates(connection: Connection, rules: RuleSet, window: datetime, look_ups: LookUps) -> Traffic:
    """The stored transactions of a window that may fit one of the rules, and what was found in them."""
    price = look_ups.price_of(window) if rules.in_usd else None
    query = _CANDIDATES.format(
        columns=_COLUMNS,
        start=sql.Literal(window),
        end=sql.Literal(window + WINDOW),
        condition=may_fit(rules.rules, price),
    )
    rows = {row[0]: row[1:] for row in connection.execute(query, binary=True)}
    # One that retention has removed in between is gone with its features.
    transactions = sorted(read_named_transactions(connection, list(rows)), key=lambda tx: (tx.seen_at, tx.txid))
    features = np.array([rows[tx.txid] for tx in transactions], np.float64).reshape(-1, len(FEATURE_NAMES))
    batch = TransactionBatch.of(transactions)
    return Traffic(batch, features, _kinds(connection, batch.txids))


def _kinds(connection: Connection, txids: Sequence[str]) -> dict[str, Flags]:
    """The rows in which each kind was found, by any score but a shadow's."""
    rows = {txid: row for row, txid in enumerate(txids)}
    found: dict[str, Flags] = {}
    for txid, kind in connection.execute(statement("rules", "found_kinds"), {"txids": list(txids)}) if rows else ():
        found.setdefault(kind, np.zeros(len(rows), np.bool_))[rows[txid]] = True
    return found


def catch_up(connection: Connection, windows: Sequence[datetime]) -> None:
    """Judge stored windows, in order, by the rules that held when each transaction landed, and record what is new.

    One short database transaction for each window that has a match. Safe to repeat: a match is recorded once.
    """
    # What was seen in a window lands at any time after.
    in_force = rules_since(connection, windows[0]) if windows else []
    rules, look_ups = RuleSet(one.rule for one in in_force), LookUps.stored(connection)
    for window in windows if in_force else ():
        judged = rules.judge(read_candidates(connection, rules, window, look_ups), look_ups)
        for name, cause in judged.failed.items():
            switch_off(connection, name, cause)
        matches = _held_then(connection, judged.matches, in_force)
        if matches:
            with connection.transaction():
                record_matches(connection, matches)


def _held_then(connection: Connection, matches: Sequence[Match], in_force: Sequence[InForce]) -> list[Match]:
    """The matches whose transactions landed while their version of the rule held."""
    if not matches:
        return []
    spans = {(one.rule.name, one.rule.version): one for one in in_force}
    landed = dict(
        connection.execute(
            "SELECT txid, landed_at FROM transactions WHERE txid = ANY(%s)", [sorted({match.txid for match in matches})]
        ).fetchall()
    )
    return [
        match
        for match in matches
        if (at := landed.get(match.txid)) is not None
        and (held := spans[match.rule.name, match.rule.version]).since <= at
        and (held.until is None or at < held.until)
    ]
