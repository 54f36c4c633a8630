"""What is said of alerted transactions that another one may have replaced: never for certain, and of no look-alike.

Looking for it costs as much as there is to look at, not that for each alert.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tests.builders import T0, transaction
from txwatch.alerts import life, store
from txwatch.store.database import Connection, connect, statement
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

ALERTED, CONFIRMED = 100, 3_000
NOW = T0 + timedelta(minutes=12)


def coin(number: int) -> SpentOutput:
    return SpentOutput(f"bc1q{number}", 10_740, "p2wpkh", 0)


def mine(connection: Connection, height: int, *txids: str, stale: bool = False) -> None:
    """A block whose contents were read."""
    connection.execute(
        "INSERT INTO blocks (hash, prev_hash, height, block_time, seen_at, tx_count, fetched_at, stale)"
        " VALUES (%s, %s, %s, %s, %s, 1, %s, %s)",
        [str(height), str(height - 1), height, *[T0 + timedelta(minutes=10)] * 3, stale],
    )
    connection.execute(
        "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM unnest(%s::text[]) AS t (txid)",
        [str(height), list(txids)],
    )


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
    confirmed = [
        transaction(txid=f"c{n:063x}", fee_sat=2_000, inputs=[coin(ALERTED - 1 + n)]) for n in range(CONFIRMED)
    ]
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(connection, [*alerted, *confirmed])
        connection.execute(
            "INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, created_at)"
            " SELECT txid, '{whale}', 'high', '[]', false, seen_at, seen_at FROM transactions WHERE txid LIKE 'a%'"
        )
        mine(connection, 840_000)
        mine(connection, 840_002)
        connection.execute(
            "INSERT INTO confirmations (txid, block_hash) SELECT txid, '840000' FROM transactions WHERE txid LIKE 'c%'"
        )
        for table in ("transactions", "alerts", "blocks", "confirmations"):
            connection.execute(f"ANALYZE {table}")  # type: ignore[arg-type]
        with connection.transaction(force_rollback=True):
            look = statement("alerts", "select_conflicts")
            explained = connection.execute(
                "EXPLAIN (ANALYZE, FORMAT JSON) " + look, {"now": NOW, "buried": life.BURIED}
            ).fetchone()
        assert explained is not None
        assert sum(map(looked_at, nodes(explained[0][0]["Plan"]))) < 20 * (ALERTED + CONFIRMED)
        assert life.insert_chain_updates(connection, NOW) == 1
        assert connection.execute("SELECT alert_key, update_key FROM alert_updates").fetchall() == [
            (alerted[-1].txid, f"replaced:{confirmed[0].txid}")
        ]


ALERT, OTHER = "a" * 64, "b" * 64
OWN, SHARED, BARE = coin(1), coin(2), SpentOutput(None, 10_741, "multisig", 0)


def spending(txid: str, *inputs: SpentOutput, fee: int | None = 1_000, **changes: Any) -> Transaction:
    return transaction(txid=txid, inputs=list(inputs), fee_sat=fee, **({"seen_at": T0} | changes))


def making(txid: str, *coins: SpentOutput) -> Transaction:
    outputs = [CreatedOutput(c.addr, c.value or 0, c.type, c.n) for c in coins]
    return transaction(txid=txid, inputs=[coin(99)], outputs=outputs, seen_at=T0)


BUMP = spending(OTHER, SHARED, fee=2_000, seen_at=T0 + timedelta(minutes=1))
CASES = {
    "the same coin": ([SHARED], [BUMP], True),
    "one coin of two": ([OWN, SHARED], [BUMP], True),
    "a coin without an address": ([BARE], [structs.replace(BUMP, inputs=[BARE])], True),
    "no coin": ([OWN], [BUMP], False),
    "a round amount without an address": (
        [SpentOutput(None, 50_000, "p2pk", 0)],
        [structs.replace(BUMP, inputs=[SpentOutput(None, 50_000, "p2pk", 0)])],
        False,
    ),
    "what the feed could not resolve": (
        [SpentOutput(None, None, "other", 0)],
        [structs.replace(BUMP, inputs=[SpentOutput(None, None, "other", 0)])],
        False,
    ),
    "two alike in it": ([SHARED, SHARED], [BUMP], False),
    "two alike in the other one": ([SHARED], [structs.replace(BUMP, inputs=[SHARED, SHARED])], False),
    "one that was spent twice": ([SHARED], [BUMP, spending("c" * 64, SHARED)], False),
    "one that was made twice": ([SHARED], [BUMP, making("c" * 64, SHARED), making("d" * 64, SHARED)], False),
    "one that was made once": ([SHARED], [BUMP, making("c" * 64, SHARED)], True),
    "a later one for a lower fee": ([SHARED], [structs.replace(BUMP, fee_sat=900)], False),
    "an earlier one for a lower fee": (
        [SHARED],
        [structs.replace(BUMP, fee_sat=900, seen_at=T0 - timedelta(minutes=1))],
        True,
    ),
    "one whose fee nobody knows": ([SHARED], [structs.replace(BUMP, fee_sat=None)], True),
}


@pytest.mark.parametrize(("inputs", "confirmed", "told"), CASES.values(), ids=CASES)
def test_only_of_a_coin_of_which_no_other_is_known_it_is_said(
    rows: Connection, inputs: list[SpentOutput], confirmed: list[Transaction], told: bool
) -> None:
    land_transactions(rows, [spending(ALERT, *inputs), *confirmed])
    raise_alert(rows)
    mine(rows, 840_000, *(tx.txid for tx in confirmed))
    assert life.insert_chain_updates(rows, NOW) == 0, "the next blocks could still hold it"
    mine(rows, 840_001)
    assert life.insert_chain_updates(rows, NOW) == 0
    mine(rows, 840_002)
    assert life.insert_chain_updates(rows, NOW) == told
    assert life.insert_chain_updates(rows, NOW) == 0
    assert news_in_message(rows) == (
        ["❌ possibly replaced: bbbbbbbb… was confirmed in block 840,000 and seems to spend the same coin"]
        if told
        else []
    )


def test_a_message_does_not_contradict_itself(rows: Connection) -> None:
    land_transactions(rows, [spending(ALERT, SHARED), BUMP])
    raise_alert(rows)
    mine(rows, 840_000, OTHER)
    mine(rows, 840_001)
    mine(rows, 840_002)
    assert life.insert_chain_updates(rows, NOW) == 1
    mine(rows, 840_003, ALERT)
    assert [line[:11] for line in news_in_message(rows)] == [], "confirmed, and not told yet"
    assert life.insert_chain_updates(rows, NOW) == 1
    assert [line[:11] for line in news_in_message(rows)] == ["✅ confirmed"[:11]]
    rows.execute("UPDATE blocks SET stale = true WHERE height = 840003")
    assert life.insert_chain_updates(rows, NOW) == 1
    assert [line.split(" ")[0] for line in news_in_message(rows)] == ["✅", "❌", "⚠️"]
    rows.execute("UPDATE blocks SET stale = true WHERE height = 840000")
    assert [line.split(" ")[0] for line in news_in_message(rows)] == ["✅", "⚠️"]


@pytest.mark.parametrize("confirmed_by", [840_000, 840_001])
def test_what_only_a_stale_block_confirms_may_be_replaced_and_does_not_replace(
    rows: Connection, confirmed_by: int
) -> None:
    land_transactions(rows, [spending(ALERT, SHARED), BUMP])
    raise_alert(rows)
    mine(rows, 840_000, OTHER, stale=confirmed_by == 840_000)
    mine(rows, 840_001, ALERT, stale=True)
    mine(rows, 840_002)
    assert life.insert_chain_updates(rows, NOW) == (confirmed_by == 840_001)


def test_a_block_at_the_end_of_all_heights_ends_no_search(rows: Connection) -> None:
    with rows.transaction():
        land_transactions(rows, [spending(ALERT, SHARED), BUMP])
    raise_alert(rows)
    mine(rows, 2**31 - 1, OTHER)
    mine(rows, 2**31 - 2)
    assert life.insert_chain_updates(rows, NOW) == 0


def raise_alert(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO alerts (alert_key, kinds, severity, reasons, late, seen_at, created_at)"
        " VALUES (%s, '{whale}', 'high', '[]', false, %s, %s)",
        [ALERT, T0, T0],
    )
    connection.execute(
        "INSERT INTO alert_deliveries (alert_key, channel, state, message_id, sent_at) VALUES (%s, '1', 'sent', 7, %s)",
        [ALERT, T0],
    )


def news_in_message(connection: Connection) -> list[str]:
    told = connection.execute("SELECT 1 FROM alert_updates").fetchone()
    return store.read_sent_message(connection, "1", ALERT).updates if told else []


@pytest.fixture
def rows(database_url: str) -> Iterator[Connection]:
    """The test's rows go when it ends."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        for table in ("alerts", "transactions", "blocks", "confirmations"):
            connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]  # noqa: S608
        yield connection
