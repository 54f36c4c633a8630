"""Rules in the lanes: told once by whichever is first, within their cap, and by the version that held."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import T0, coin, spending
from tests.databases import empty_tables
from tests.modelling import model
from txwatch.alerts.alert import Alert
from txwatch.alerts.conditions import State
from txwatch.alerts.deliveries import Limits, end_request, start_request
from txwatch.alerts.health import conditions, read_health, record_health
from txwatch.alerts.messages import alert_lines, to_html
from txwatch.alerts.store import raise_window_alerts, read_alerts, read_sent_message
from txwatch.channels.channel import Target, Terms
from txwatch.channels.outcomes import Gone
from txwatch.channels.store import add_channel, set_enabled
from txwatch.clock import WINDOW, window_start
from txwatch.detection.kinds import Severity
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score_windows import score_windows
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels
from txwatch.live.lane import LiveScoring
from txwatch.rules.document import read_plain
from txwatch.rules.evaluate import Match
from txwatch.rules.matches import Recorded, record_matches
from txwatch.rules.rule import MOST_UNTOLD
from txwatch.rules.store import add_rule, list_rules, read_history, set_mode, switch_off
from txwatch.store.database import Connection, connect, database_now
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
WINDOW_OF_T0 = window_start(T0)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(
            connection,
            "rules, rule_matches, labels, label_changes, transactions, transaction_scores,"
            " alerts, transaction_features, network_baseline, campaign_transactions, channels",
        )
        with connection.transaction():
            import_labels(connection, [Label("kraken", "explorer", "Kraken", "exchange")], T0)
        yield connection


def pay(n: int, btc: float, target: str = "another", after: float = 0) -> Transaction:
    """Transaction `n`, seen some seconds after T0."""
    sat = int(btc * BTC)
    spent = coin("ab" * 32, n, sat + 1_000, addr=f"sender{n}")
    return spending(f"{n:064x}", spent, pays=[(target, sat)], seen_at=T0 + timedelta(seconds=after), vsize=111)


def rule(connection: Connection, *comparisons: str, mode: str = "active", **changes: Any) -> None:
    fields = {"name": "large", "text": "Large transfer", "severity": "high", "mode": mode} | changes
    add_rule(connection, read_plain({**fields, "when": {"all": list(comparisons)}}), "a test")


def lane(**fields: Any) -> LiveScoring:
    """The live lane without a champion: detectors and rules alone."""
    return LiveScoring(lambda: None, CurrentDetectors(500), **({"clock": lambda: T0} | fields))


def land(connection: Connection, transactions: Sequence[Transaction], live: LiveScoring | None = None) -> None:
    with connection.transaction():
        assert len(land_transactions(connection, transactions)) == len(transactions)
        if live is not None:
            live.write(connection, transactions)


def by_window_lane(connection: Connection, chats: Sequence[str] = ()) -> list[str]:
    with connection.transaction():
        publish_network_baseline(connection, WINDOW_OF_T0, WINDOW_OF_T0 + WINDOW)
    for _ in write_features(connection, WINDOW_OF_T0, WINDOW_OF_T0 + WINDOW):
        pass
    score_windows(connection, [WINDOW_OF_T0], model(minutes=20, trees=50), whale_btc=500)
    return raise_window_alerts(connection, WINDOW_OF_T0, WINDOW_OF_T0 + WINDOW, chats, T0)


def alerts(connection: Connection) -> dict[int, Alert]:
    keys = [key for (key,) in connection.execute("SELECT alert_key FROM alerts ORDER BY 1")]
    return {int(alert.alert_key, 16): alert for alert in read_alerts(connection, keys)}


def of_rules(connection: Connection) -> dict[int, list[str]]:
    """The kinds of rules in each alert."""
    found = {n: [kind for kind in one.kinds if kind.startswith("rule:")] for n, one in alerts(connection).items()}
    return {n: kinds for n, kinds in found.items() if kinds}


def outcomes(connection: Connection) -> dict[int, str]:
    return {
        int(txid, 16): outcome
        for txid, outcome in connection.execute("SELECT txid, outcome FROM rule_matches").fetchall()
    }


def updates(connection: Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM alert_updates ORDER BY created_at, update_key")]


def test_the_live_lane_tells_a_match_with_what_was_true_of_it(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", "flow = exchange_in", severity="critical")
    land(connection, [pay(1, 200, "kraken"), pay(2, 200), pay(3, 20, "kraken")], lane())
    assert of_rules(connection) == {1: ["rule:large"]}
    alert = alerts(connection)[1]
    assert (alert.severity, alert.kinds) == (Severity.critical, ["rule:large", "exchange_in"])
    said = "Large transfer: 200.00 BTC likely moved (>= 100 BTC); from unknown to Kraken (labels: explorer)"
    assert alert.reasons[0].text == f"{said} (rule large, version 1)"
    message = to_html(alert_lines(alert, pay(1, 200, "kraken"), T0))
    assert message.startswith("<b>📏 Rule large, into an exchange</b> · 200.00 BTC\n🏷 ")
    assert "\n• Large transfer: 200.00 BTC" in message


def test_a_rule_and_a_detector_are_one_alert_with_the_most_severe_first(connection: Connection) -> None:
    rule(connection, "kind = whale", severity="low")
    land(connection, [pay(1, 600)], lane())
    assert (alerts(connection)[1].kinds, alerts(connection)[1].severity) == (["whale", "rule:large"], Severity.high)


def test_a_change_holds_for_the_next_batch_and_leaves_what_was_sent(connection: Connection, database_url: str) -> None:
    live = lane()
    land(connection, [pay(1, 200)], live)
    with connect(database_url) as another:
        rule(another, "moved_sat >= 100 BTC")
    land(connection, [pay(2, 200)], live)
    with connect(database_url) as another:
        rule(another, "moved_sat >= 300 BTC", text="Larger")
    land(connection, [pay(3, 200), pay(4, 300)], live)
    with connect(database_url) as another:
        set_mode(another, "large", "off", "a test")
    land(connection, [pay(5, 900)], live)
    assert of_rules(connection) == {2: ["rule:large"], 4: ["rule:large"]}
    texts = [alerts(connection)[n].reasons[-1].text for n in (2, 4)]
    assert [text.partition(":")[0] for text in texts] == ["Large transfer", "Larger"]
    assert connection.execute("SELECT version FROM rule_matches ORDER BY txid").fetchall() == [(1,), (2,)]
    by_window_lane(connection)
    assert of_rules(connection) == {2: ["rule:large"], 4: ["rule:large"]}, "judged by what held when each landed"


def test_the_window_lane_tells_what_the_live_lane_had_missed_and_nothing_twice(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC")
    land(connection, [pay(1, 200)], lane())
    land(connection, [pay(2, 300), pay(3, 600)])
    by_window_lane(connection)
    assert of_rules(connection) == {n: ["rule:large"] for n in (1, 2, 3)}
    before = alerts(connection)
    assert "whale" in before[3].kinds
    assert by_window_lane(connection) == []
    assert alerts(connection) == before
    assert [text for text in updates(connection) if "rule" in text] == []


def test_the_lanes_say_the_same(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", "flow in exchange_in, unknown")

    def said() -> dict[int, list[str]]:
        return {n: [r.text for r in one.reasons if r.kind == "rule:large"] for n, one in alerts(connection).items()}

    land(connection, [pay(1, 200, "kraken"), pay(2, 50), pay(3, 120)], lane())
    by_live = said()
    assert list(by_live) == [1, 3]
    empty_tables(connection, "alerts, rule_matches, transaction_scores")
    by_window_lane(connection)
    assert {n: texts for n, texts in said().items() if texts} == by_live


def test_a_match_that_was_recorded_and_not_alerted_is_raised_later(connection: Connection) -> None:
    """As after a kill between the two steps of the window lane."""
    rule(connection, "moved_sat >= 100 BTC")
    land(connection, [pay(1, 200)], lane())
    empty_tables(connection, "alerts")
    by_window_lane(connection)
    assert of_rules(connection) == {1: ["rule:large"]}


def test_a_match_that_comes_later_extends_the_alert_that_is_there(connection: Connection) -> None:
    land(connection, [pay(1, 600)], lane())
    rule(connection, "moved_sat >= 100 BTC")
    connection.execute("UPDATE rules SET changed_at = 'epoch'")
    raised = by_window_lane(connection)
    assert f"{1:064x}" not in raised
    assert [text for text in updates(connection) if text.startswith("📏")] == [
        "📏 also rule large: Large transfer: 600.00 BTC likely moved (>= 100 BTC) (rule large, version 1)"
    ]


def test_a_capture_that_is_replayed_is_judged_by_the_rules_of_today(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC")
    land(connection, [replace(pay(1, 200), source="bulk")])
    by_window_lane(connection)
    assert of_rules(connection) == {1: ["rule:large"]}
    assert alerts(connection)[1].late, "in a digest, as of any replay"


def test_a_rules_alerts_go_to_its_channels_and_what_a_detector_found_to_all(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", channels=["-7"])
    land(connection, [pay(1, 200), pay(2, 600)], lane(chats=["1", "-7"]))
    land(connection, [pay(3, 200)])
    by_window_lane(connection, ["1", "-7"])
    land(connection, [pay(4, 200)], lane(chats=["1"]))
    found: dict[int, set[str]] = {}
    for txid, channel in connection.execute("SELECT alert_key, channel FROM alert_deliveries"):
        found.setdefault(int(txid, 16), set()).add(channel)
    assert "whale" in alerts(connection)[2].kinds
    assert {n: found[n] for n in (1, 2, 4)} == {1: {"-7"}, 2: {"1", "-7"}, 4: {"1"}}
    if "forest" not in alerts(connection)[3].kinds:
        assert found[3] == {"-7"}


@pytest.mark.parametrize(("ended", "gets"), [(True, "1"), (False, None)], ids=["by its answer", "by somebody"])
def test_what_is_for_a_channel_alone_that_has_ended_goes_to_all(
    connection: Connection, ended: bool, gets: str | None
) -> None:
    """What somebody has disabled gets nothing, as they wanted; what answered 410 would take the alerts with it."""
    add_channel(connection, "siem", "webhook", "shown", Target("https://example.org", ("s" * 32,)), Terms())
    rule(connection, "moved_sat >= 100 BTC", channels=["siem"])
    if ended:
        request = start_request(connection, "siem", "alert", Limits(), T0)
        assert request is not None
        end_request(connection, "siem", request, Gone("it answered 410"), T0)
    else:
        set_enabled(connection, "siem", T0, enabled=False)
    land(connection, [pay(1, 200)], lane(chats=["1"]))
    [delivered] = connection.execute("SELECT array_agg(channel) FROM alert_deliveries").fetchall()
    assert delivered == (None if gets is None else [gets],)


def test_in_test_a_rule_is_recorded_and_not_sent(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", mode="test")
    land(connection, [pay(1, 200)], lane())
    assert (of_rules(connection), outcomes(connection)) == ({}, {1: "test"})
    by_window_lane(connection)
    assert of_rules(connection) == {}


def test_what_is_over_the_cap_is_held_back_counted_and_said_in_one_line(connection: Connection) -> None:
    rule(connection, "moved_sat >= 1 BTC", alerts_per_hour=2)
    live = lane(clock=lambda: now)
    now = T0
    land(connection, [pay(n, 2, after=n) for n in range(1, 6)], live)
    assert outcomes(connection) == {1: "alert", 2: "alert", 3: "held", 4: "held", 5: "held"}
    assert list(of_rules(connection)) == [1, 2]
    assert updates(connection) == ["⏸ 3 more of rule large held back in the hour from 12:00 UTC"]
    land(connection, [pay(6, 2, after=60)], live)
    assert len(updates(connection)) == 1, "not more often than once a minute"
    now = T0 + timedelta(minutes=2)
    land(connection, [pay(7, 2, after=120), pay(8, 2, after=3_600)], live)
    assert updates(connection)[1:] == ["⏸ 5 more of rule large held back in the hour from 12:00 UTC"]
    assert outcomes(connection)[8] == "alert", "another hour of the clock"


def test_a_rule_that_matches_everything_takes_neither_the_disk_nor_the_time_of_the_lanes(
    connection: Connection,
) -> None:
    rule(connection, "moved_sat >= 1 BTC", alerts_per_hour=2)
    rule(connection, "moved_sat >= 1 BTC", name="tried", mode="test")
    live = lane()
    kept = [("large", "alert", 2), ("large", "held", MOST_UNTOLD), ("tried", "test", MOST_UNTOLD)]
    for first in (1, 201):
        land(connection, [pay(n, 2, after=n / 10) for n in range(first, first + 200)], live)
        by_window_lane(connection)
        found = connection.execute("SELECT rule, outcome, count(*) FROM rule_matches GROUP BY 1, 2 ORDER BY 1, 2")
        assert found.fetchall() == kept
    assert updates(connection) == ["⏸ 100 or more of rule large held back in the hour from 12:00 UTC"]
    land(connection, [pay(1_000, 2, after=3_600)], live)
    assert outcomes(connection)[1_000] in {"alert", "test"}, "another hour of the clock"


def test_the_live_lane_looks_at_no_more_matches_than_can_be_recorded(connection: Connection) -> None:
    """To say why each of them matched would take it minutes for a backlog."""
    rule(connection, "moved_sat >= 1 BTC", alerts_per_hour=2)
    judged = list[Match]()

    def noted(connection: Connection, matches: Sequence[Match]) -> Recorded:
        judged.extend(matches)
        return record_matches(connection, matches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("txwatch.live.lane.record_matches", noted)
        land(connection, [pay(n, 2, after=n / 10) for n in range(1, 301)], lane())
    assert len(judged) == 2 + MOST_UNTOLD
    assert sum(outcome == "alert" for outcome in outcomes(connection).values()) == 2


def test_a_message_shows_the_newest_count_alone(connection: Connection) -> None:
    rule(connection, "moved_sat >= 1 BTC", alerts_per_hour=1)
    live = lane(clock=lambda: now, chats=["1"])
    for minutes in (0, 2, 4):
        now = T0 + timedelta(minutes=minutes)
        land(connection, [pay(10 * minutes + n, 2, after=60 * minutes + n) for n in range(1, 4)], live)
    connection.execute("UPDATE alert_deliveries SET state = 'sent', sent_at = now(), message_id = 7")
    sent = read_sent_message(connection, "1", f"{1:064x}")
    assert sent.updates == ["⏸ 8 more of rule large held back in the hour from 12:00 UTC"]
    assert sent.shown == 3


def test_matches_of_one_pattern_are_one_alert_if_the_rule_says_so(connection: Connection) -> None:
    trained = model(minutes=20, trees=50)
    rule(connection, "moved_sat >= 1 BTC", one_alert_within="1 h")
    live = LiveScoring(lambda: trained, CurrentDetectors(500), clock=lambda: T0)
    land(connection, [pay(n, 2, after=n) for n in range(1, 5)], live)
    alone = [one for one in of_rules(connection) if "forest" not in alerts(connection)[one].kinds]
    assert alone[:1] == [1]
    assert len(alone) == 1
    assert set(outcomes(connection).values()) == {"alert"}
    [(size,)] = connection.execute(
        "SELECT count(*) FROM campaign_transactions WHERE event LIKE 'rule:large:%'"
    ).fetchall()
    assert size == 4
    by_window_lane(connection)
    assert len(of_rules(connection)) == 1


def test_a_broken_stored_rule_is_switched_off_with_its_reason_and_the_others_go_on(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", name="whole")
    rule(connection, "moved_sat >= 100 BTC", name="broken")
    connection.execute("""UPDATE rules SET document = document || '{"when": "gone >= 3"}' WHERE name = 'broken'""")
    land(connection, [pay(1, 200)], lane())
    assert of_rules(connection) == {1: ["rule:whole"]}
    states = {one.name: one for one in list_rules(connection)}
    assert (states["whole"].mode, states["broken"].mode, states["broken"].changed_by) == ("active", "off", "txwatch")
    assert states["broken"].reason == (
        "when: there is nothing called `gone` to compare: a rule compares features (docs/features.md) such as"
        " `moved_sat`, kind, flow, source and parties"
    )
    assert len(read_history(connection, "broken")) == 2
    by_window_lane(connection)
    assert of_rules(connection) == {1: ["rule:whole"]}


def test_a_stored_rule_beyond_its_bounds_costs_the_alerts_of_no_other(connection: Connection) -> None:
    rule(connection, "moved_sat >= 100 BTC", name="beyond")
    cap = """UPDATE rules SET document = document || '{"alerts_per_hour": "00000000199999999999"}'"""
    connection.execute(cap)
    land(connection, [pay(1, 600)], lane())
    assert alerts(connection)[1].kinds == ["whale"]
    [stored] = list_rules(connection)
    assert stored.mode == "off"
    assert str(stored.reason).startswith("alerts_per_hour: `alerts_per_hour` is a number from 1 to 1,000")


def test_health_names_a_rule_that_was_switched_off_until_it_is_changed(connection: Connection, tmp_path: Path) -> None:
    rule(connection, "moved_sat >= 100 BTC", name="broken")

    def found() -> dict[str, tuple[State, str]]:
        now = database_now(connection)
        health = [one for one in conditions(read_health(connection, tmp_path, now), now) if "rule" in one.name]
        record_health(connection, health, now)
        return {one.name: (one.state, one.text) for one in health}

    assert found() == {}
    switch_off(connection, "broken", "when: there is nothing called `gone` to compare")
    said = "Rule broken was switched off, for it cannot be followed: when: there is nothing called `gone` to compare."
    assert found() == {"rule_off:broken": (State.wrong, f"{said} Correct it and add it again")}
    rule(connection, "moved_sat >= 200 BTC", name="broken")
    assert found() == {"rule_off:broken": (State.well, "Rule broken was changed")}
    assert found() == {}


def test_two_lanes_at_once_keep_one_cap(connection: Connection, database_url: str) -> None:
    rule(connection, "moved_sat >= 1 BTC", alerts_per_hour=3)

    def work(first: int) -> None:
        with connect(database_url) as own:
            live = lane()
            for n in range(first, first + 10):
                land(own, [pay(n, 2)], live)

    threads = [threading.Thread(target=work, args=(first,)) for first in (100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(outcomes(connection).values())
    assert (found.count("alert"), found.count("held")) == (3, 17)
    assert len(of_rules(connection)) == 3
