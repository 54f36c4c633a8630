"""`txwatch rules` as its users run it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.builders import T0, coin, spending
from tests.databases import empty_tables
from txwatch.cli import app
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.errors import UserError
from txwatch.features.store import write_features
from txwatch.rules.store import MOST_RULES, NoSuchRuleError, read_history
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions

BTC = 100_000_000
MINE = """
name: mine
text: Large transfer
severity: high
alerts_per_hour: 2
when: moved_sat >= {amount} BTC
"""


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    with connect(database_url) as connection:
        empty_tables(connection, "rules, rule_matches, transactions, transaction_features, usd_prices")


def rules(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["rules", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE.format(amount=100))
    return str(file)


def test_a_rule_is_checked_without_a_database(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    assert rules("check", mine) == "mine is a rule of 1 comparison: high, off, at most 2 alerts an hour.\n"
    Path(mine).write_text(MINE.format(amount=100).replace("moved_sat", "moved"))
    with pytest.raises(UserError, match="line 6, when: there is nothing called `moved` to compare, did you mean"):
        rules("check", mine)
    with pytest.raises(UserError, match="There is no file `high-fe`, did you mean `high-fee`"):
        rules("check", "high-fe")


def test_a_rule_is_added_switched_changed_and_remembered(mine: str, database_url: str) -> None:
    assert rules("add", mine) == "mine has version 1, and is off. `txwatch rules enable mine` switches it on.\n"
    assert rules("add", mine) == "mine has version 1, and is off. `txwatch rules enable mine` switches it on.\n"
    assert rules("enable", "mine") == "mine is active, by version 2.\n"
    assert rules("enable", "mine") == "mine is active, by version 2.\n", "the same again changes nothing"
    Path(mine).write_text(MINE.format(amount=200))
    assert rules("add", mine) == "mine has version 3, and is active.\n", "it keeps its mode"
    assert rules("test", "mine") == "mine is test, by version 4.\n"
    assert rules("disable", "mine") == "mine is off, by version 5.\n"
    with connect(database_url) as connection:
        versions = read_history(connection, "mine")
    assert [(one.version, one.mode) for one in versions] == [
        (5, "off"),
        (4, "test"),
        (3, "active"),
        (2, "active"),
        (1, "off"),
    ]
    assert [one.document["when"] for one in versions][2:4] == [  # type: ignore[index, call-overload]
        "moved_sat >= 200 BTC",
        "moved_sat >= 100 BTC",
    ]
    assert [one.changed_at for one in versions] == sorted((one.changed_at for one in versions), reverse=True)
    said = rules("history", "mine").splitlines()
    assert said[0].startswith("version 5, off, ")
    assert '"when": "moved_sat >= 200 BTC"' in said[1]
    for command in "enable", "history", "disable":
        with pytest.raises(NoSuchRuleError, match="There is no rule yours"):
            rules(command, "yours")


def test_a_shipped_rule_is_added_by_its_name_and_is_off() -> None:
    assert "high-fee has version 1, and is off" in rules("add", "high-fee")
    listed = rules("list")
    assert "high-fee" in listed
    assert "Shipped, and not added: dormant-coins-by-age, large-into-exchange" in listed
    assert "There is no price of a bitcoin just now: comparisons in USD are false." in listed


def test_the_list_counts_what_became_of_matches(mine: str, database_url: str) -> None:
    rules("add", mine)
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO rule_matches (txid, rule, version, seen_at, severity, outcome, reason)"
            " SELECT n, 'mine', 1, now(), 'low', (ARRAY['alert', 'test', 'held'])[1 + n % 3], '{}'"
            " FROM generate_series(1, 5) AS n"
        )
    [listed] = json.loads(rules("list", "--json"))
    assert (listed["name"], listed["alerts"], listed["tested"], listed["held_back"]) == ("mine", 1, 2, 2)


def test_the_past_is_tried(mine: str, database_url: str) -> None:
    window = window_start(utc_now()) - WINDOW
    with connect(database_url) as connection, connection.transaction():
        land_transactions(
            connection,
            [
                spending(
                    f"{n:064x}", coin("ab" * 32, n, n * 50 * BTC + 500), pays=[("to", n * 50 * BTC)], seen_at=window
                )
                for n in range(1, 6)
            ],
        )
    with connect(database_url) as connection:
        for _ in write_features(connection, window, window + WINDOW):
            pass
    said = rules("dry-run", mine, "--days", "1").splitlines()
    assert said[0].startswith("There is data for 0.1 of the 24.0 hours until ")
    assert said[1] == "4 matches, 48.00 an hour; with the cap of 2 an hour 2 alerts, 24.00 an hour."
    assert said[3] == "The largest:"
    assert "Large transfer: 250.00 BTC likely moved (>= 100 BTC)" in said[4]
    run = json.loads(rules("dry-run", mine, "--days", "1", "--json"))
    assert (run["matches"], run["alerts"], len(run["largest"])) == (4, 2, 4)
    assert T0.year < window.year


def test_there_are_no_more_rules_than_the_most(mine: str, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "INSERT INTO rules (name, version, document, mode, changed_at, changed_by)"
            " SELECT 'rule-' || n, 1, '{}', 'off', now(), 'a test' FROM generate_series(1, %s) AS n",
            [MOST_RULES],
        )
    with pytest.raises(UserError, match=f"there are {MOST_RULES} rules, which is the most"):
        rules("add", mine)
