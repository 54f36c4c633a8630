"""Each step of a delivery from one state to the next, on the database alone, at moments that the test chooses."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.databases import empty_tables
from txwatch.alerts import deliveries
from txwatch.alerts.alert import Alert, former_ids, present_id, record_move
from txwatch.alerts.deliveries import (
    Claim,
    claim,
    claim_reply,
    end_request,
    read_channel,
    record,
    record_edit,
    start_request,
    take_over,
)
from txwatch.alerts.planning import (
    EditAlert,
    Limits,
    PendingAlert,
    Request,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    next_step,
)
from txwatch.alerts.store import AlertUpdate, SentMessage, insert_alerts, insert_updates
from txwatch.channels.outcomes import ChannelRefused, NotSent, Outcome, Refused, Sent, Unknown
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.store.database import Connection, connect
from txwatch.store.locks import Lock, if_free

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
CHAT, OTHER = "42", "43"
LIMITS = Limits()


@dataclass
class Chats:
    """A database with the alerts a, b and c, each of which waits for two chats. What is done is done to CHAT."""

    connection: Connection

    def delivery(self, key: str, channel: str = CHAT) -> dict[str, Any]:
        """A row of `alert_deliveries`, but for its key."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                "SELECT * FROM alert_deliveries WHERE alert_key = %s AND channel = %s", [key, channel]
            ).fetchone()
        assert row is not None
        return {name: value for name, value in row.items() if name not in {"alert_key", "channel", "chat_id"}}

    def untouched(self, *keys: str) -> bool:
        """Whether these are as they were raised, and all of the other chat are."""
        rows = [self.delivery(key) for key in keys] + [self.delivery(key, OTHER) for key in "abc"]
        fresh = {"state": "pending", "attempts": 0, "shown_updates": 0}
        return all(row == dict.fromkeys(row) | fresh for row in rows)

    def requests(self) -> list[tuple[Any, ...]]:
        """All requests, in the order in which they were entered."""
        rows = self.connection.execute(
            "SELECT channel, purpose, started_at, ended_at FROM channel_requests ORDER BY id"
        )
        return rows.fetchall()

    def chat(self, channel: str = CHAT) -> tuple[Any, ...] | None:
        """The failures in a row of a chat, when to try again, and where it moved."""
        return self.connection.execute(
            "SELECT failures, retry_at, moved_to FROM channels WHERE channel = %s", [channel]
        ).fetchone()

    def claimed(self, step: Request = SendAlert("a"), now: datetime = T0) -> Claim:  # noqa: B008 - frozen
        """What a process claims once it has settled the chat."""
        take_over(self.connection, CHAT, now)
        made = claim(self.connection, CHAT, step, LIMITS, now)
        assert made is not None
        return made

    def uncertain(self, key: str) -> None:
        """Leave this one uncertain, its request long ended."""
        made = self.claimed(SendAlert(key), T0 - MINUTE)
        record(self.connection, CHAT, made, Unknown("no answer"), T0 - MINUTE)


@pytest.fixture
def chats(database_url: str) -> Iterator[Chats]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, channels, channel_requests")
        with connection.transaction():
            insert_alerts(connection, [alert(key, n) for n, key in enumerate("abc")], [CHAT, OTHER])
        take_over(connection, OTHER, T0)
        yield Chats(connection)


def sent_message(shown: int, channel: str = CHAT) -> SentMessage:
    """What the message about a, which is number 7 in its chat, is to show."""
    return SentMessage("a", channel, 7, T0, ["news"], shown)


def alert(key: str, seconds: int = 0) -> Alert:
    seen_at = T0 + seconds * SECOND
    reasons = [Reason("whale", "moved", "value_sat", 5e10)]
    return Alert(key, ["whale", "forest"], Severity.high, reasons, False, seen_at, seen_at + SECOND, "3")


def test_a_claim_is_committed_as_sending_before_the_request(chats: Chats) -> None:
    made = chats.claimed()
    assert made.purpose == "alert"
    row = chats.delivery("a")
    assert (row["state"], row["attempts"], row["request_id"]) == ("sending", 1, made.request_id)
    assert chats.requests() == [(CHAT, "alert", T0, None)]
    assert chats.untouched("b", "c")


def test_a_digest_claims_its_alerts_and_lists_the_uncertain_ones_without_sending_them_again(chats: Chats) -> None:
    chats.uncertain("c")
    made = chats.claimed(SendDigest(["a", "b"], ["c"]))
    assert made.purpose == "digest"
    assert [chats.delivery(key)["state"] for key in "abc"] == ["sending", "sending", "uncertain"]
    assert [chats.delivery(key)["listed_in"] for key in "abc"] == [None, None, made.request_id]
    assert chats.delivery("c")["request_id"] != made.request_id
    assert chats.untouched()


def test_a_claim_takes_nothing_that_does_not_wait(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), Sent(7), T0)
    chats.claimed(SendDigest(["a"], []), T0 + MINUTE)
    assert chats.delivery("a")["state"] == "sent"
    assert chats.delivery("a")["attempts"] == 1


@pytest.mark.parametrize(
    ("step", "outcome", "state", "message_id", "reason"),
    [
        (SendAlert("a"), Sent(7), "sent", 7, None),
        (SendDigest(["a"], []), Sent(7), "digested", 7, None),
        (SendAlert("a"), NotSent("away"), "pending", None, "away"),
        (SendDigest(["a"], []), NotSent("away"), "pending", None, "away"),
        (SendAlert("a"), ChannelRefused("blocked"), "pending", None, "blocked"),
        (SendAlert("a"), Refused("no such tag"), "dead", None, "no such tag"),
        (SendAlert("a"), Unknown("cut off"), "uncertain", None, "cut off"),
    ],
)
def test_what_became_of_a_request_is_the_next_state(
    chats: Chats, step: Request, outcome: Outcome, state: str, message_id: int | None, reason: str | None
) -> None:
    made = chats.claimed(step)
    record(chats.connection, CHAT, made, outcome, T0 + SECOND)
    assert chats.delivery("a") == {
        "state": state,
        "attempts": 1,
        "request_id": made.request_id,
        "sent_at": T0 + SECOND if message_id else None,
        "message_id": message_id,
        "reason": reason,
        "listed_in": None,
        "shown_updates": 0,
        "edit_unknown_at": None,
    }
    assert chats.requests() == [(CHAT, made.purpose, T0, T0 + SECOND)]
    assert chats.untouched("b", "c")


def test_a_second_attempt_counts_and_forgets_why_the_first_one_failed(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), NotSent("away"), T0)
    record(chats.connection, CHAT, chats.claimed(now=T0 + MINUTE), Sent(7), T0 + MINUTE)
    row = chats.delivery("a")
    assert (row["state"], row["attempts"], row["reason"]) == ("sent", 2, None)


def test_what_a_process_that_is_gone_left_as_sending_is_uncertain(chats: Chats) -> None:
    chats.claimed()
    with chats.connection.transaction():
        start_request(chats.connection, OTHER, "reply", LIMITS, T0)
    assert take_over(chats.connection, CHAT, T0 + SECOND) == 1
    assert chats.delivery("a")["state"] == "uncertain"
    assert "ended before it knew" in chats.delivery("a")["reason"]
    assert chats.untouched("b", "c")
    assert chats.requests() == [(CHAT, "alert", T0, T0 + SECOND), (OTHER, "reply", T0, None)]
    assert take_over(chats.connection, CHAT, T0 + MINUTE) == 0
    assert chats.requests()[0] == (CHAT, "alert", T0, T0 + SECOND), "it ended once"


def test_requests_are_kept_for_an_hour(chats: Chats) -> None:
    chats.claimed()
    take_over(chats.connection, CHAT, T0 + HOUR)
    assert len(chats.requests()) == 1
    take_over(chats.connection, CHAT, T0 + HOUR + SECOND)
    assert chats.requests() == []


def test_a_process_that_was_taken_for_dead_can_still_say_that_it_arrived(chats: Chats) -> None:
    made = chats.claimed()
    take_over(chats.connection, CHAT, T0 + SECOND)
    record(chats.connection, CHAT, made, Sent(7), T0 + MINUTE)
    row = chats.delivery("a")
    assert (row["state"], row["message_id"], row["sent_at"], row["reason"]) == ("sent", 7, T0 + MINUTE, None)


@pytest.mark.parametrize("outcome", [NotSent("away"), Refused("blocked"), Unknown("cut off")])
def test_a_process_that_was_taken_for_dead_can_say_nothing_else(chats: Chats, outcome: Outcome) -> None:
    made = chats.claimed()
    take_over(chats.connection, CHAT, T0 + SECOND)
    before = chats.delivery("a")
    record(chats.connection, CHAT, made, outcome, T0 + MINUTE)
    assert chats.delivery("a") == before


@pytest.mark.parametrize(
    ("outcome", "unlisted"), [(Sent(7), []), (NotSent("away"), ["b", "c"]), (Unknown("cut off"), [])]
)
def test_an_uncertain_one_is_named_until_a_digest_may_have_arrived(
    chats: Chats, outcome: Outcome, unlisted: list[str]
) -> None:
    for key in "cb":
        chats.uncertain(key)
    made = chats.claimed(SendDigest([], ["b", "c"]))
    record(chats.connection, CHAT, made, outcome, T0)
    assert read_channel(chats.connection, CHAT, LIMITS, T0).unlisted == unlisted
    assert [chats.delivery(key)["state"] for key in "bc"] == ["uncertain", "uncertain"]


def test_an_edit_is_repeated_until_it_is_done_or_refused(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), Sent(7), T0)

    def edited(outcome: Outcome, shown: int, now: datetime) -> tuple[int, str | None]:
        made = chats.claimed(EditAlert("a"), now)
        assert made.purpose == "edit"
        record_edit(chats.connection, CHAT, made, sent_message(shown), outcome, now + SECOND)
        assert chats.requests()[-1] == (CHAT, "edit", now, now + SECOND)
        row = chats.delivery("a")
        assert (row["state"], row["message_id"], row["attempts"]) == ("sent", 7, 1)
        return row["shown_updates"], row["reason"]

    assert edited(NotSent("away"), 1, T0 + 1 * MINUTE) == (0, None)
    assert chats.chat() == (1, T0 + MINUTE + 2 * SECOND, None)
    assert edited(Unknown("cut off"), 1, T0 + 2 * MINUTE) == (0, None)
    assert edited(Refused("too old"), 1, T0 + 3 * MINUTE) == (1, "too old")
    assert edited(Sent(7), 2, T0 + 4 * MINUTE) == (2, None)
    assert chats.untouched("b", "c")


def test_an_edit_of_which_nothing_is_known_lets_others_go_first_and_waits(chats: Chats) -> None:
    """Telegram may answer each edit of one message with what cannot be read: the limits are for alerts and others."""
    for n, key in enumerate("ab"):
        record(chats.connection, CHAT, chats.claimed(SendAlert(key), T0 + n * SECOND), Sent(7 + n), T0 + n * SECOND)
    with chats.connection.transaction():
        news = [AlertUpdate(key, "confirmed:f0", "confirmed", T0 + n * SECOND) for n, key in enumerate("ab")]
        insert_updates(chats.connection, news)

    def outdated(now: datetime) -> list[str]:
        return list(read_channel(chats.connection, CHAT, LIMITS, now).outdated)

    def edited(outcome: Outcome, now: datetime) -> None:
        record_edit(chats.connection, CHAT, chats.claimed(EditAlert("a"), now), sent_message(0), outcome, now)

    at = T0 + MINUTE
    assert outdated(at) == ["a", "b"]
    edited(Unknown("cut off"), at)
    assert outdated(at + MINUTE) == ["b"]
    assert outdated(at + 6 * MINUTE) == ["b", "a"]
    assert outdated(at - MINUTE) == ["b", "a"], "it was made while the clock was ahead"
    edited(NotSent("away"), at + 6 * MINUTE)
    assert outdated(at + 6 * MINUTE) == ["a", "b"]


def test_failures_in_a_row_delay_the_chat_ever_longer_and_a_success_ends_that(chats: Chats) -> None:
    def ended(outcome: Outcome) -> tuple[Any, ...] | None:
        with chats.connection.transaction():
            end_request(chats.connection, CHAT, request_id, outcome, T0)
        assert chats.chat(OTHER) == (0, None, None)
        return chats.chat()

    request_id = chats.claimed().request_id
    assert ended(NotSent("away")) == (1, T0 + SECOND, None)
    assert ended(NotSent("away")) == (2, T0 + 2 * SECOND, None)
    assert ended(NotSent("away")) == (3, T0 + 4 * SECOND, None)
    assert ended(NotSent("slow down", retry_after=MINUTE)) == (4, T0 + MINUTE, None)
    assert ended(NotSent("slow down", retry_after=timedelta(0))) == (5, T0 + 16 * SECOND, None)
    assert ended(Unknown("cut off")) == (0, None, None)
    assert ended(NotSent("away")) == (1, T0 + SECOND, None)
    assert ended(Refused("no such tag")) == (0, None, None)


def test_a_chat_that_takes_no_messages_is_tried_with_growing_pauses_until_it_takes_one(chats: Chats) -> None:
    def refusal() -> tuple[Any, ...] | None:
        query = "SELECT refused_since, refusal, retry_at FROM channels WHERE channel = %s"
        return chats.connection.execute(query, [CHAT]).fetchone()

    now, pauses = T0, []
    for n in range(7):
        made = chats.claimed(SendDigest(["a", "b"], []), now)
        record(chats.connection, CHAT, made, ChannelRefused(f"blocked {n}"), now)
        since, why, retry_at = refusal() or (None, None, None)
        assert (since, why) == (T0, f"blocked {n}"), "since the first one, for the reason of the last"
        pauses.append((retry_at - now) / MINUTE)
        now = retry_at
    assert pauses == [1, 2, 4, 8, 15, 15, 15]
    assert [chats.delivery(key)["state"] for key in "ab"] == ["pending", "pending"]
    assert read_channel(chats.connection, CHAT, LIMITS, now).refused_since == T0
    assert read_channel(chats.connection, OTHER, LIMITS, now).refused_since is None
    record(chats.connection, CHAT, chats.claimed(SendAlert("a"), now), NotSent("away", retry_after=HOUR), now)
    assert refusal() == (T0, "blocked 6", now + HOUR), "what Telegram asks for counts, and says nothing of the chat"
    record(chats.connection, CHAT, chats.claimed(SendAlert("a"), now), Sent(7), now)
    assert refusal() == (None, None, None)
    record(chats.connection, CHAT, chats.claimed(SendAlert("b"), now), ChannelRefused("again"), now)
    record_edit(chats.connection, CHAT, chats.claimed(EditAlert("a"), now), sent_message(1), Sent(7), now)
    assert refusal() == (now, "again", None), "a chat may allow an edit that takes no messages"


def test_what_can_never_be_sent_is_named_in_a_digest_once(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), Refused("no such tag"), T0)
    assert read_channel(chats.connection, CHAT, LIMITS, T0).unlisted == ["a"]
    made = chats.claimed(SendDigest([], ["a"]), T0 + MINUTE)
    record(chats.connection, CHAT, made, Sent(8), T0 + MINUTE)
    assert read_channel(chats.connection, CHAT, LIMITS, T0).unlisted == []
    assert chats.delivery("a")["state"] == "dead"


def test_a_chat_that_moved_keeps_what_waits_and_what_was_set_up_in_it(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(SendAlert("c")), Sent(7), T0)
    chats.connection.execute("UPDATE channels SET min_severity = 'high' WHERE channel = %s", [CHAT])
    chats.uncertain("b")
    record(chats.connection, CHAT, chats.claimed(), NotSent("moved", moved_to="-100"), T0)
    assert present_id(chats.connection, CHAT) == "-100"
    assert former_ids(chats.connection, "-100") == [CHAT]
    take_over(chats.connection, "-100", T0)
    chat = read_channel(chats.connection, "-100", LIMITS, T0)
    assert ([pending.alert_key for pending in chat.pending], chat.unlisted, chat.free_at) == (["a"], ["b"], None)
    assert chats.delivery("a", "-100")["reason"] == "moved"
    kept = "SELECT quiet_hours, min_severity FROM channels WHERE channel = '-100'"
    assert chats.connection.execute(kept).fetchone() == (None, "high")
    assert chats.delivery("c")["state"] == "sent", "what was sent stays where it is"
    with chats.connection.transaction():
        insert_alerts(chats.connection, [alert("d")], [CHAT, "-100", "-100"])
    rows = chats.connection.execute("SELECT channel FROM alert_deliveries WHERE alert_key = 'd'").fetchall()
    assert rows == [("-100",)], "by whatever ids a chat is named, it is one"


def test_an_alert_that_waits_under_two_ids_of_a_chat_is_sent_once(chats: Chats) -> None:
    with chats.connection.transaction():
        insert_alerts(chats.connection, [alert("d"), alert("e", 1)], ["-5", "-100"])
        record_move(chats.connection, "-5", "-100")
    take_over(chats.connection, "-5", T0)
    take_over(chats.connection, "-100", T0)
    assert [p.alert_key for p in read_channel(chats.connection, "-100", LIMITS, T0).pending] == ["d", "e"]
    assert read_channel(chats.connection, "-5", LIMITS, T0).pending == []


def test_a_request_under_a_former_id_is_given_its_time(chats: Chats) -> None:
    chats.claimed()
    with chats.connection.transaction():
        record_move(chats.connection, CHAT, "-100")
    assert take_over(chats.connection, "-100", T0 + SECOND) == 0, "it may still be under way"
    assert take_over(chats.connection, "-100", T0 + 2 * MINUTE) == 1
    take_over(chats.connection, "-100", T0 + 2 * MINUTE)
    assert read_channel(chats.connection, "-100", LIMITS, T0).unlisted == ["a"]


def test_a_chat_that_moves_on_or_back_is_still_one(chats: Chats) -> None:
    def moved(*ids: str) -> list[str]:
        with chats.connection.transaction():
            record_move(chats.connection, *ids)
        return [present_id(chats.connection, name) for name in ("-1", "-2", "-3")]

    assert moved("-1", "-2") == ["-2", "-2", "-3"]
    assert moved("-2", "-3") == ["-3", "-3", "-3"]
    assert moved("-3", "-3") == ["-3", "-3", "-3"]
    assert moved("-3", "-1") == ["-1", "-1", "-1"]


def test_all_processes_together_start_no_more_requests_than_telegram_takes_in_a_second(chats: Chats) -> None:
    limits = Limits(overall_per_second=2)

    def started(channel: str, now: datetime) -> int | None:
        with chats.connection.transaction():
            return start_request(chats.connection, channel, "reply", limits, now)

    first, second = started("1", T0), started("2", T0)
    assert first is not None
    assert second is not None
    assert started("3", T0) is None
    assert started("3", T0 + MINUTE - SECOND) is None, "both are still under way"
    assert claim(chats.connection, CHAT, SendAlert("a"), limits, T0) is None
    assert chats.untouched("a", "b", "c")
    end_request(chats.connection, "1", first, Sent(7), T0 + 5 * SECOND)
    assert started("3", T0 + 5.9 * SECOND) is None
    assert started("3", T0 + 6 * SECOND) is not None
    assert started("4", T0 + 6 * SECOND) is None
    assert started("4", T0 + MINUTE) is not None, "what never ended belongs to a process that is gone"


def test_an_answer_waits_for_the_chat_and_for_all_chats(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), Sent(7), T0)
    assert claim_reply(chats.connection, CHAT, LIMITS, T0 + 0.9 * SECOND) == Wait(T0 + SECOND)
    few = Limits(overall_per_second=0)
    assert claim_reply(chats.connection, CHAT, few, T0 + MINUTE) == Wait(T0 + MINUTE + SECOND)
    assert len(chats.requests()) == 1
    made = claim_reply(chats.connection, CHAT, LIMITS, T0 + SECOND)
    assert isinstance(made, Claim)
    assert made.purpose == "reply"
    assert chats.requests()[1] == (CHAT, "reply", T0 + SECOND, None)


def test_the_chat_is_read_with_all_that_the_decision_needs(chats: Chats) -> None:
    assert read_channel(chats.connection, CHAT, LIMITS, T0).free_at is None
    record(chats.connection, CHAT, chats.claimed(), Sent(7), T0)
    digest = chats.claimed(SendDigest(["b"], []), T0 + MINUTE)
    record(chats.connection, CHAT, digest, Sent(8), T0 + MINUTE + SECOND)
    news = [AlertUpdate(key, "confirmed:f0", "confirmed", T0 + MINUTE) for key in "abc"]
    with chats.connection.transaction():
        insert_updates(chats.connection, news)
    chat = read_channel(chats.connection, CHAT, LIMITS, T0 + 2 * MINUTE)
    assert chat.pending == [
        PendingAlert("c", "whale", Severity.high, False, T0 + 2 * SECOND, T0 + 3 * SECOND, amount=5e10)
    ]
    assert chat.sent_alone == [SentAlone(T0, "whale", Severity.high)]
    assert chat.outdated == ["a"], "a message of its own, which does not show the news"
    assert chat.last_digest == T0 + MINUTE + SECOND
    assert chat.free_at == T0 + MINUTE + 2 * SECOND
    assert (chat.held_until, chat.unlisted) == (None, [])
    other = read_channel(chats.connection, OTHER, LIMITS, T0 + 2 * MINUTE)
    assert [pending.alert_key for pending in other.pending] == ["a", "b", "c"]
    assert (other.sent_alone, other.outdated, other.last_digest, other.free_at) == ([], [], None, None)
    later = read_channel(chats.connection, CHAT, LIMITS, T0 + timedelta(days=2))
    assert (later.sent_alone, later.outdated) == ([], []), "an hour's messages, a day's news"


def test_a_critical_alert_is_found_behind_any_number_of_others(chats: Chats, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a chat is muted for a week, rules of users may leave more waiting than one step looks at."""
    monkeypatch.setattr(deliveries, "MOST_PENDING", 2)
    with chats.connection.transaction():
        insert_alerts(chats.connection, [replace(alert("d", 60), severity=Severity.critical)], [CHAT])
    take_over(chats.connection, CHAT, T0)
    chats.connection.execute("UPDATE channels SET held_until = %s", [T0 + HOUR])
    chat = read_channel(chats.connection, CHAT, LIMITS, T0 + MINUTE)
    assert len(chat.pending) == 2
    assert next_step(chat, T0 + MINUTE) == SendAlert("d")


def test_of_a_channel_that_is_not_asked_now_one_of_those_that_wait_is_read(chats: Chats) -> None:
    """Each second is looked, at each channel, and a receiver may be away for weeks."""
    record(chats.connection, CHAT, chats.claimed(), NotSent("away", retry_after=MINUTE), T0)
    for now, waiting in ((T0, 1), (T0 + MINUTE - SECOND, 1), (T0 + MINUTE, 3)):
        chat = read_channel(chats.connection, CHAT, LIMITS, now)
        assert len(chat.pending) == waiting
        assert next_step(chat, now) == (Wait(T0 + MINUTE) if waiting == 1 else SendAlert("a"))


def test_the_later_of_two_reasons_to_wait_decides(chats: Chats) -> None:
    record(chats.connection, CHAT, chats.claimed(), NotSent("slow down", retry_after=MINUTE), T0)
    assert read_channel(chats.connection, CHAT, LIMITS, T0).free_at == T0 + MINUTE
    slow = Limits(chat_interval=HOUR)
    assert read_channel(chats.connection, CHAT, slow, T0).free_at == T0 + HOUR

    def held(muted_until: datetime | None, quiet_hours: str | None) -> datetime | None:
        chats.connection.execute(
            "UPDATE channels SET held_until = %s, quiet_hours = %s WHERE channel = %s",
            [muted_until, quiet_hours, CHAT],
        )
        assert read_channel(chats.connection, OTHER, LIMITS, T0).held_until is None
        return read_channel(chats.connection, CHAT, LIMITS, T0).held_until

    assert held(T0 + HOUR, None) == T0 + HOUR
    assert held(None, "11:00-14:00") == T0 + 2 * HOUR
    assert held(T0 + HOUR, "11:00-14:00") == T0 + 2 * HOUR
    assert held(T0 + 3 * HOUR, "11:00-14:00") == T0 + 3 * HOUR
    assert held(T0 + HOUR, "13:00-14:00") == T0 + HOUR
    assert held(None, "13:00-14:00") is None


def test_a_group_is_paced_by_the_newest_of_its_requests(chats: Chats) -> None:
    with chats.connection.transaction():
        for n in range(20):
            now = T0 + n * SECOND
            request_id = start_request(chats.connection, "-1", "reply", LIMITS, now)
            assert request_id is not None
            end_request(chats.connection, "-1", request_id, Sent(n), now)
    assert read_channel(chats.connection, "-1", LIMITS, T0 + MINUTE / 2).free_at == T0 + MINUTE
    with chats.connection.transaction():
        start_request(chats.connection, "-1", "reply", LIMITS, T0 + MINUTE)
    assert read_channel(chats.connection, "-1", LIMITS, T0 + MINUTE).free_at == T0 + MINUTE, "one under way has no end"


def test_a_chat_has_one_lock(chats: Chats, database_url: str) -> None:
    with connect(database_url) as another, if_free(chats.connection, Lock.CHANNEL, CHAT) as held:
        assert held
        with if_free(another, Lock.CHANNEL, CHAT) as too, if_free(another, Lock.CHANNEL, OTHER) as elsewhere:
            assert (too, elsewhere) == (False, True)
        with if_free(another, Lock.CHANNEL, CHAT) as again:
            assert not again, "letting go of what was not held frees nothing"
    with connect(database_url) as another, if_free(another, Lock.CHANNEL, CHAT) as held:
        assert held
