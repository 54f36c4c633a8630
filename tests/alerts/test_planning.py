"""What goes out next: alone, in a digest, later or not at all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from txwatch.alerts.alert import LATE_AFTER
from txwatch.alerts.planning import (
    BURST,
    DIGEST_EVERY,
    DIGEST_WAIT,
    FLOOD_WINDOW,
    ChannelState,
    EditAlert,
    Idle,
    Limits,
    PendingAlert,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    backoff,
    chat_free_at,
    next_step,
)
from txwatch.channels.quiet_hours import QuietHours
from txwatch.detection.kinds import KINDS, Severity

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def waiting(
    key: str, severity: Severity = Severity.high, *, late: bool = False, seen: timedelta = -SECOND
) -> PendingAlert:
    return PendingAlert(key, "whale", severity, late, T0 + seen, T0 + seen)


def sent(at: datetime, severity: Severity = Severity.high, kind: str = "whale") -> SentAlone:
    return SentAlone(at, kind, severity)


def test_nothing_waits() -> None:
    assert next_step(ChannelState(free_at=T0 + SECOND), T0) == Idle()


def test_the_most_severe_goes_first_then_the_oldest() -> None:
    pending = [waiting("b"), waiting("a", seen=-2 * SECOND), waiting("c", Severity.critical)]
    assert next_step(ChannelState(pending), T0) == SendAlert("c")
    assert next_step(ChannelState(pending[:2]), T0) == SendAlert("a")
    assert next_step(ChannelState([pending[1], replace(pending[0], amount=1e8)]), T0) == SendAlert("b")


def test_a_chat_that_is_not_free_yet_is_waited_for() -> None:
    assert next_step(ChannelState([waiting("a")], free_at=T0 + SECOND), T0) == Wait(T0 + SECOND)


def test_late_and_outdated_alerts_wait_for_more_and_go_into_one_digest() -> None:
    old = -LATE_AFTER - SECOND
    pending = [waiting("late", late=True, seen=-SECOND), waiting("old", Severity.critical, seen=old)]
    assert next_step(ChannelState(pending[:1]), T0) == Wait(T0 - SECOND + DIGEST_WAIT)
    assert next_step(ChannelState(pending), T0) == SendDigest(["old", "late"], [])
    last = T0 - DIGEST_EVERY + SECOND
    assert next_step(ChannelState(pending, last_digest=last), T0) == Wait(last + DIGEST_EVERY)


def test_what_was_raised_while_the_clock_was_ahead_waits_no_longer_in_a_digest() -> None:
    assert next_step(ChannelState([waiting("a", late=True, seen=3_600 * SECOND)]), T0) == SendDigest(["a"], [])


def test_the_moment_itself_is_in_time() -> None:
    assert next_step(ChannelState([waiting("a", seen=-LATE_AFTER)]), T0) == SendAlert("a"), "it is late after that"
    assert next_step(ChannelState([waiting("a")], free_at=T0, held_until=T0), T0) == SendAlert("a")
    due = waiting("a", late=True, seen=-DIGEST_WAIT)
    assert next_step(ChannelState([due], last_digest=T0 - DIGEST_EVERY), T0) == SendDigest(["a"], [])


def test_a_storm_sends_the_top_ones_alone_and_the_rest_in_a_digest() -> None:
    minor = [waiting(f"m{i:03}", Severity.medium, seen=-DIGEST_WAIT) for i in range(200)]
    major = [waiting("big", Severity.critical)]
    alone = [sent(T0 - i * SECOND) for i in range(1, BURST)]
    assert next_step(ChannelState(minor + major, sent_alone=alone), T0) == SendAlert("big")
    step = next_step(ChannelState(minor, sent_alone=[sent(T0), *alone]), T0)
    assert isinstance(step, SendDigest)
    assert len(step.alert_keys) == 200
    later = T0 + FLOOD_WINDOW - SECOND
    assert next_step(ChannelState(minor, sent_alone=[sent(T0), *alone]), later) == SendAlert("m000")


def test_a_storm_of_minor_alerts_holds_up_nothing_severe() -> None:
    storm = [sent(T0 - i * SECOND, Severity.medium) for i in range(2 * BURST)]
    pending = [waiting("minor", Severity.medium), waiting("whale"), waiting("fee", Severity.critical)]
    assert next_step(ChannelState(pending, sent_alone=storm), T0) == SendAlert("fee")
    assert next_step(ChannelState(pending[:2], sent_alone=storm), T0) == SendAlert("whale")
    assert next_step(ChannelState(pending[:1], sent_alone=storm), T0) == Wait(T0 - SECOND + DIGEST_WAIT)
    severe = [sent(T0 - i * SECOND, Severity.critical) for i in range(BURST)]
    assert next_step(ChannelState(pending[1:2], sent_alone=severe), T0) == Wait(T0 - SECOND + DIGEST_WAIT)


def test_a_kind_beyond_its_cap_goes_into_the_digest() -> None:
    cap = KINDS["whale"].alone_per_hour
    pending = [waiting(key, seen=-DIGEST_WAIT) for key in "abc"]
    earlier = T0 - FLOOD_WINDOW
    assert next_step(ChannelState(pending, sent_alone=[sent(earlier)] * (cap - 1)), T0) == SendAlert("a")
    assert next_step(ChannelState(pending[1:], sent_alone=[sent(earlier)] * cap), T0) == SendDigest(["b", "c"], [])
    assert next_step(ChannelState(pending, sent_alone=[sent(earlier, kind="forest")] * 1_000), T0) == SendAlert("a")


def test_edits_come_after_everything_else() -> None:
    assert next_step(ChannelState([waiting("a")], outdated=["x"]), T0) == SendAlert("a")
    assert next_step(ChannelState([waiting("a", late=True)], outdated=["x"]), T0) == EditAlert("x")
    assert next_step(ChannelState(outdated=["x"], free_at=T0 + SECOND), T0) == Wait(T0 + SECOND)


@pytest.mark.parametrize(
    ("text", "now", "until"),
    [
        ("22:00-07:00 Europe/Berlin", "2024-03-14T21:30Z", "2024-03-15T06:00Z"),
        ("22:00-07:00 Europe/Berlin", "2024-03-14T05:59Z", "2024-03-14T06:00Z"),
        ("22:00-07:00 Europe/Berlin", "2024-03-14T06:00Z", None),
        ("9:00-17:00", "2024-03-14T12:00Z", "2024-03-14T17:00Z"),
        ("9:00-17:00", "2024-03-14T18:00Z", None),
        # The night in which summer time begins is an hour shorter.
        ("22:00-07:00 Europe/Berlin", "2024-03-30T23:00Z", "2024-03-31T05:00Z"),
    ],
)
def test_quiet_hours_follow_the_clock_of_their_zone(text: str, now: str, until: str | None) -> None:
    expected = until and datetime.fromisoformat(until)
    assert QuietHours.parse(text).until(datetime.fromisoformat(now)) == expected


@pytest.mark.parametrize("text", ["", "22-7", "25:00-07:00", "08:00-08:00", "22:00-07:00 Berlin", "22:00-07:00 ../x"])
def test_bad_quiet_hours_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"quiet hours|time of day|no time zone"):
        QuietHours.parse(text)


def test_uncertain_ones_are_named_in_a_digest() -> None:
    assert next_step(ChannelState(unlisted=["x"]), T0) == SendDigest([], ["x"])
    last = T0 - SECOND
    assert next_step(ChannelState(unlisted=["x"], last_digest=last), T0) == Wait(last + DIGEST_EVERY)


def test_a_muted_chat_hears_only_what_is_critical() -> None:
    until = T0 + 60 * SECOND
    muted = ChannelState([waiting("a"), waiting("b", late=True, seen=-60 * SECOND)], ["x"], held_until=until)
    assert next_step(muted, T0) == Wait(until)
    assert next_step(replace(muted, unlisted=[]), T0) == Wait(until)
    assert next_step(replace(muted, pending=[]), T0) == Wait(until)
    assert next_step(ChannelState([waiting("c", Severity.critical)], held_until=until), T0) == SendAlert("c")
    assert next_step(ChannelState(held_until=until), T0) == Idle()


def test_a_chat_that_took_no_messages_is_tried_with_one_digest_of_all_that_it_missed() -> None:
    missed = [waiting("a"), waiting("b", Severity.critical), waiting("c", late=True)]
    chat = ChannelState(missed, ["x"], refused_since=T0, last_digest=T0 - SECOND, outdated=["y"])
    assert next_step(chat, T0) == SendDigest(["b", "a", "c"], ["x"])
    assert next_step(replace(chat, free_at=T0 + SECOND), T0) == Wait(T0 + SECOND)
    assert next_step(replace(chat, pending=[], unlisted=[], outdated=[]), T0) == Idle()


def test_the_gaps_follow_telegrams_limits() -> None:
    limits = Limits()
    assert chat_free_at("1", [], limits) is None
    minute = [T0 - i * SECOND for i in range(30)]
    assert chat_free_at("1", minute, limits) == T0 + SECOND
    assert chat_free_at("-1", minute, limits) == T0 - 19 * SECOND + 60 * SECOND
    assert chat_free_at("@channel", minute, limits) == T0 - 19 * SECOND + 60 * SECOND
    assert chat_free_at("-1", minute[:19], limits) == T0 + SECOND
    assert [backoff(n).total_seconds() for n in (1, 2, 3, 9, 50)] == [1, 2, 4, 256, 300]
