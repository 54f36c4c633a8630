"""Cases from Telegram: commands and buttons of a real bot's code, against a real Postgres."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.alerts.accelerated import ORIGIN
from tests.databases import empty_tables
from txwatch.alerts.alert import Alert
from txwatch.alerts.cases import close_by_button
from txwatch.alerts.commands import NOBODY, Person, answer
from txwatch.alerts.store import Verdict, insert_alerts, read_precision
from txwatch.detection.kinds import Severity
from txwatch.queries.cases import read_case
from txwatch.store.database import Connection, connect

WHALE = "ab" * 32
ALICE, BOB = Person(5, "Alice", "alice"), Person(6, "Bob <b>")
CHAT, SECOND = "42", timedelta(seconds=1)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, changes")
        alert = Alert(WHALE, ["whale"], Severity.high, [], False, ORIGIN, ORIGIN, "3")
        insert_alerts(connection, [alert], [CHAT])
        yield connection


def say(connection: Connection, text: str, after: int, by: Person = ALICE) -> str:
    said = answer(connection, CHAT, text, ORIGIN + timedelta(hours=1), ORIGIN + after * SECOND, by)
    assert said is not None
    return said


def test_a_case_is_worked_on_in_the_chat(connection: Connection) -> None:
    assert "acknowledged" in say(connection, "/ack ABABABAB", 1)
    assert "assigned to <b>Bob</b>" in say(connection, f"/assign {WHALE} Bob", 2)
    say(connection, "/note abababab what the <exchange> does each week", 3, BOB)
    say(connection, "/note abababab what the <exchange> does each week", 3, BOB)  # told twice by Telegram
    assert "closed as <b>noise</b>" in say(connection, "/close abababab Noise a known wallet", 4, BOB)
    detail = read_case(connection, WHALE, private=True)
    assert detail is not None
    case = detail.case
    assert (case.state, case.assignee, case.verdict, case.why) == ("closed", "Bob", "noise", "a known wallet")
    assert (case.notes, case.changed_by) == (1, "telegram:Bob <b> (6)")
    assert [event.who for event in detail.events] == ["telegram:@alice"] * 2 + ["telegram:Bob <b> (6)"] * 2
    assert [event.at for event in detail.events] == [ORIGIN + n * SECOND for n in (1, 2, 3, 4)]
    assert "open again" in say(connection, "/reopen abababab", 5)
    detail = read_case(connection, WHALE)
    assert detail is not None
    assert detail.case.state == "open"


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("/ack", "There is no alert"),
        ("/ack 00000000", "There is no alert"),
        ("/note abababab", "A note has a text"),
        ("/assign abababab", "only then name somebody"),
        ("/close abababab", "Say useful or noise"),
        ("/close abababab fraud", "Say useful or noise"),
        (f"/note abababab {'x' * 2_001}", "at most 2,000"),
    ],
)
def test_what_is_not_whole_is_answered_in_words(connection: Connection, text: str, answered: str) -> None:
    assert answered in say(connection, text, 1)
    detail = read_case(connection, WHALE)
    assert detail is not None
    assert detail.events == []


def test_what_is_said_within_a_second_is_all_kept_in_its_order(connection: Connection) -> None:
    say(connection, "/note abababab first", 1)
    say(connection, "/note abababab second", 1)
    say(connection, "/close abababab useful", 1)
    say(connection, "/ack abababab", 1)
    say(connection, "/close abababab useful", 1)  # told again by Telegram, after another step
    detail = read_case(connection, WHALE)
    assert detail is not None
    assert [(event.action, event.text) for event in detail.events] == [
        ("note", "first"),
        ("note", "second"),
        ("close", None),
        ("acknowledge", None),
    ]
    assert detail.case.state == "acknowledged"


def test_what_telegram_tells_twice_is_kept_once_by_a_clock_that_is_late_too(connection: Connection) -> None:
    said_at = ORIGIN + timedelta(minutes=1)
    for seconds in (-5, -2, 3):
        answer(connection, "42", "/note abababab seen", said_at + timedelta(seconds=seconds), said_at, ALICE)
    detail = read_case(connection, WHALE)
    assert detail is not None
    assert [(event.at, event.text) for event in detail.events] == [(said_at, "seen")]


def test_nobody_acts_under_the_user_name_of_another(connection: Connection) -> None:
    """Whoever has no user name may call themselves @alice."""
    for n, name in enumerate(("@alice", "@alice\u202e\n", "Alice (5)")):
        say(connection, f"/note abababab {n}", n, Person(66, name))
    detail = read_case(connection, WHALE, private=True)
    assert detail is not None
    names = [event.who for event in detail.events]
    assert names == ["telegram:@alice (66)", "telegram:@alice (66)", "telegram:Alice (5) (66)"]
    shown = read_case(connection, WHALE)
    assert shown is not None
    names = [event.who for event in shown.events]
    assert names == [f"telegram:{name} (no user name)" for name in ("@alice", "@alice", "Alice (5)")]


def test_a_text_may_begin_on_a_line_of_its_own(connection: Connection) -> None:
    say(connection, "/note abababab\nfirst line\nsecond line", 1)
    assert "closed as" in say(connection, "/close\nabababab noise\nwhy", 2)
    detail = read_case(connection, WHALE)
    assert detail is not None
    assert [event.text for event in detail.events] == ["first line\nsecond line", "why"]


def test_anonymous_administrators_of_two_groups_are_two(connection: Connection) -> None:
    for group, verdict in (("-1", "noise"), ("-2", "noise"), ("-1", "useful")):
        text = f"/close abababab {verdict}"
        assert answer(connection, group, text, ORIGIN + SECOND, ORIGIN + SECOND, NOBODY) is not None
    verdicts = connection.execute("SELECT person, verdict FROM feedback ORDER BY person").fetchall()
    assert verdicts == [("telegram:-1", "useful"), ("telegram:-2", "noise")]


def test_a_verdict_that_is_told_again_takes_no_later_one_back(connection: Connection) -> None:
    say(connection, "/close abababab noise", 1)
    say(connection, "/close abababab useful", 2)
    say(connection, "/close abababab noise", 1)
    (precision,) = read_precision(connection, ORIGIN)
    assert precision.useful == 1


def test_several_alerts_that_begin_alike_are_not_confused(connection: Connection) -> None:
    other = Alert("ab" * 31 + "cd", ["whale"], Severity.high, [], False, ORIGIN, ORIGIN, "3")
    insert_alerts(connection, [other], [CHAT])
    assert "Several alerts begin with that" in say(connection, "/ack abababab", 1)
    assert "acknowledged" in say(connection, f"/ack {WHALE}", 1)


def test_a_button_closes_the_case_once_and_another_opinion_closes_it_anew(connection: Connection) -> None:
    given: list[tuple[Person, Verdict]] = [(ALICE, "useful"), (ALICE, "useful"), (BOB, "noise"), (ALICE, "useful")]
    for n, (by, verdict) in enumerate(given):
        close_by_button(connection, WHALE, by.who, by.user_id, verdict, ORIGIN + n * SECOND)
    detail = read_case(connection, WHALE, private=True)
    assert detail is not None
    assert [(event.who, event.verdict) for event in detail.events] == [
        ("telegram:@alice", "useful"),
        ("telegram:Bob <b> (6)", "noise"),
        ("telegram:@alice", "useful"),
    ]
    (precision,) = read_precision(connection, ORIGIN)
    assert (precision.judged, precision.useful) == (1, 1)
    changes = connection.execute("SELECT who, area, subject, detail FROM changes ORDER BY id").fetchall()
    assert changes[1] == ("telegram:Bob <b> (6)", "cases", WHALE, "noise")
