"""The dry run says what a rule would have raised, and reads only what may fit it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, coin, spending
from tests.databases import empty_tables
from tests.populated import Populated
from txwatch.clock import WINDOW, window_range, window_start
from txwatch.detection.kinds import Severity
from txwatch.features.store import read_features, write_features
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels, watch
from txwatch.rules.dry_run import LARGEST, DryRun, dry_run
from txwatch.rules.evaluate import RuleSet, Traffic
from txwatch.rules.look_ups import LookUps
from txwatch.rules.parse import comparison
from txwatch.rules.rule import AllOf, AnyOf, Not, Rule, Tree
from txwatch.rules.windows import _kinds, read_candidates
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

BTC = 100_000_000


def rule(tree: Tree, cap: int = 20) -> Rule:
    return Rule("mine", "Mine", Severity.low, tree, alerts_per_hour=cap)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """Transactions of 1, 2, 3, ... BTC: four in the first hour, eight in the next, and nothing in the third."""
    with connect(database_url) as connection:
        empty_tables(connection, "transactions, transaction_features, transaction_scores, usd_prices, rule_matches")
        moments = [T0 + timedelta(minutes=n) for n in range(1, 5)]
        moments += [T0 + timedelta(hours=1, minutes=n) for n in range(1, 9)]
        with connection.transaction():
            land_transactions(
                connection,
                [
                    spending(f"{n:064x}", coin("ab" * 32, n, n * BTC + 500), pays=[("bc1qto", n * BTC)], seen_at=at)
                    for n, at in enumerate(moments, start=1)
                ],
            )
        for _ in write_features(connection, T0, T0 + timedelta(hours=3)):
            pass
        yield connection


def hours(run: DryRun) -> dict[datetime, tuple[int, int]]:
    return {hour.since: (hour.matches, hour.alerts) for hour in run.by_hour}


def test_matches_are_counted_by_hour_with_the_cap_and_without(connection: Connection) -> None:
    run = dry_run(connection, rule(comparison("moved_sat >= 2 BTC"), cap=5), T0 + timedelta(hours=3), days=1)
    assert hours(run) == {T0: (3, 3), T0 + timedelta(hours=1): (8, 5)}
    assert (run.matches, run.alerts) == (11, 8)
    # Windows of five minutes with transactions: one in the first hour, and two in the next.
    assert (run.hours, run.hours_with_data) == (24.0, pytest.approx(3 / 12))
    assert run.matches_per_hour == pytest.approx(11 / 0.25)
    assert run.alerts_per_hour == pytest.approx(8 / 0.25)


def test_the_largest_and_the_newest_come_with_their_reasons(connection: Connection) -> None:
    run = dry_run(connection, rule(comparison("moved_sat >= 1 BTC")), T0 + timedelta(hours=3), days=1)
    assert [one.moved_sat / BTC for one in run.largest] == [float(n) for n in range(12, 12 - LARGEST, -1)]
    assert [int(one.txid, 16) for one in run.newest] == list(range(12, 0, -1))
    assert run.newest[0].text == "Mine: 12.00 BTC likely moved (>= 1 BTC)"


def test_it_says_for_how_much_there_was_no_price_and_writes_nothing(connection: Connection) -> None:
    tree = AnyOf((comparison("moved_sat >= 1 USD"), comparison("moved_sat >= 12 BTC")))
    run = dry_run(connection, rule(tree), T0 + timedelta(hours=3), days=1)
    assert (run.matches, run.without_price) == (1, 3)
    connection.execute(
        "INSERT INTO usd_prices (noted_at, told_at, usd, source) VALUES (%(at)s, %(at)s, 50000, 'a service')",
        {"at": T0 + timedelta(minutes=50)},
    )
    run = dry_run(connection, rule(tree), T0 + timedelta(hours=3), days=1)
    assert (run.matches, run.without_price) == (8, 1)
    assert connection.execute("SELECT count(*) FROM rule_matches").fetchone() == (0,)


def test_it_ends_when_it_is_late_and_says_for_how_much_it_looked(connection: Connection) -> None:
    looked = iter([False, False, True])
    tree = comparison("moved_sat >= 0 BTC")
    run = dry_run(connection, rule(tree), T0 + timedelta(hours=3), 1, is_late=lambda: next(looked))
    assert (run.complete, run.matches, run.hours_with_data) == (False, 8, pytest.approx(2 / 12))
    assert dry_run(connection, rule(tree), T0 + timedelta(hours=3), 1).complete


def test_no_data_is_no_figure(connection: Connection) -> None:
    run = dry_run(connection, rule(comparison("moved_sat >= 0 BTC")), T0 - timedelta(days=30), days=1)
    assert (run.hours_with_data, run.matches, run.matches_per_hour, run.alerts_per_hour) == (0.0, 0, 0.0, 0.0)


TREES = [
    comparison("value_sat >= 5 BTC"),
    comparison("kind = whale"),
    comparison("kind != whale"),
    comparison("kind in forest, coinjoin, batch_payout"),
    comparison("moved_sat >= 300,000 USD"),
    comparison("fee_rate_over_median_1h != 1"),
    Not(comparison("fee_rate_over_median_1h > 0.5")),
    comparison("output_taproot_share between 0.3333333333333333 and 0.7"),
    AllOf((comparison("value_sat >= 1 BTC"), Not(comparison("flow = unknown")))),
    AllOf(
        (
            comparison("kind = consolidation"),
            Not(AnyOf((comparison("vsize > 9000"), comparison("source = bitcoin-core")))),
        )
    ),
    AnyOf((AllOf((comparison("input_count between 10 and 50"), comparison("kind != forest"))), comparison("rbf = 0"))),
]


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_what_is_not_read_would_not_have_matched(populated: Populated, tree: Tree) -> None:
    """By all transactions of the last windows of simulated traffic, with their features and scores."""
    with connect(populated.database_url) as connection:
        [(last,)] = connection.execute("SELECT max(window_start) FROM transaction_features").fetchall()
        rules, look_ups = RuleSet([rule(tree)]), LookUps.stored(connection)
        for window in window_range(window_start(last) - 2 * WINDOW, window_start(last)):
            stored = read_features(connection, window)
            whole = Traffic(stored.batch, stored.features, _kinds(connection, stored.batch.txids))
            expected = {match.txid: match.reason.text for match in rules.judge(whole, look_ups).matches}
            candidates = read_candidates(connection, rules, window, look_ups)
            found = {match.txid: match.reason.text for match in rules.judge(candidates, look_ups).matches}
            assert found == expected
            assert len(candidates.batch) <= len(whole.batch)


def test_it_names_what_fits_no_label_and_the_nearest_that_there_is(connection: Connection) -> None:
    empty_tables(connection, "labels, watch_list")
    texts = [
        "receiver matches label category exchnge",
        "sender matches label entity Binanse",
        "payer matches label source nowhere",
        "receiver matches label known",
        "sender matches label watched",
        "flow = exchange_in",
    ]
    tree = AnyOf((comparison("moved_sat >= 12 BTC"), *map(comparison, texts)))

    def said() -> list[str]:
        run = dry_run(connection, rule(tree), T0 + timedelta(hours=3), days=1)
        assert run.matches == 1
        return run.never_true

    assert said() == [
        "`receiver matches label category exchnge` is never true: there are no labels",
        "`sender matches label entity binanse` is never true: there are no labels",
        "`payer matches label source nowhere` is never true: there are no labels",
        "`receiver matches label known` is never true: there are no labels",
        "`sender matches label watched` is never true: no address is watched",
        "`flow = exchange_in` is never true: it needs labels of exchanges, and there are none",
    ]
    with connection.transaction():
        import_labels(connection, [Label("bc1qnobody", "a book", "Binance", "exchange")], T0)
        watch(connection, "bc1qnobody", "", T0)
    assert said() == [
        "`receiver matches label category exchnge` is never true: no label fits, did you mean `exchange`?",
        "`sender matches label entity binanse` is never true: no label fits, did you mean `binance`?",
        "`payer matches label source nowhere` is never true: no label fits",
    ]
