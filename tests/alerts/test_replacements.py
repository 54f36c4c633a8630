"""Looking for what replaced alerted transactions costs as much as there is to look at, not that for each alert."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from tests.builders import T0, transaction
from txwatch.alerts import updates
from txwatch.store.database import connect
from txwatch.store.landing import land_transactions
from txwatch.store.sql import statement
from txwatch.wire.transaction import SpentOutput

ALERTED, CONFIRMED = 100, 3_000
NOW = T0 + timedelta(minutes=12)


def coin(number: int) -> SpentOutput:
    return SpentOutput(f"bc1q{number}", 10_740, "p2wpkh", 0)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def looked_at(node: dict[str, Any]) -> float:
    """The rows that a node of an executed plan took or turned away."""
    turned_away = sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    return float(node["Actual Loops"] * (node["Actual Rows"] + turned_away))


def test_replacements_are_found_in_one_look_at_what_was_confirmed(database_url: str) -> None:
    alerted = [transaction(txid=f"a{n:063x}", inputs=[coin(n)]) for n in range(ALERTED)]
    confirmed = [transaction(txid=f"c{n:063x}", inputs=[coin(ALERTED - 1 + n)]) for n in range(CONFIRMED)]
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(connection, [*alerted, *confirmed])
        connection.execute(
            "INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, created_at)"
            " SELECT txid, '{whale}', 'high', '[]', false, seen_at, seen_at FROM transactions WHERE txid LIKE 'a%'"
        )
        connection.execute(
            "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count, fetched_at)"
            " VALUES ('f0', 840000, %(at)s, %(at)s, 1, %(at)s)",
            {"at": T0 + timedelta(minutes=10)},
        )
        connection.execute(
            "INSERT INTO confirmations (txid, block_hash) SELECT txid, 'f0' FROM transactions WHERE txid LIKE 'c%'"
        )
        for table in ("transactions", "alerts", "blocks", "confirmations"):
            connection.execute(f"ANALYZE {table}")  # type: ignore[arg-type]
        with connection.transaction(force_rollback=True):
            look = statement(updates.__file__, "insert_replacements")
            explained = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + look, {"now": NOW}).fetchone()
        assert explained is not None
        assert sum(map(looked_at, nodes(explained[0][0]["Plan"]))) < 20 * (ALERTED + CONFIRMED)
        assert updates.insert_chain_news(connection, NOW) == 1
        assert connection.execute("SELECT alert_key, update_key FROM alert_updates").fetchall() == [
            (alerted[-1].txid, f"replaced:{confirmed[0].txid}")
        ]
