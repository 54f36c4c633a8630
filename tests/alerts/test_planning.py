"""What goes out next: alone, in a digest, later or not at all."""

from datetime import UTC, datetime, timedelta

from txwatch.alerts.kinds import Severity
from txwatch.alerts.pacing import Limits, backoff, chat_free_at
from txwatch.alerts.planning import (
    BURST,
    DIGEST_EVERY,
    DIGEST_WAIT,
    FLOOD_WINDOW,
    ChatState,
    Idle,
    PendingAlert,
    SendAlert,
    SendDigest,
    Wait,
    next_step,
)
from txwatch.alerts.raising import LATE_AFTER

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def waiting(
    key: str, severity: Severity = Severity.high, *, late: bool = False, seen: timedelta = -SECOND
) -> PendingAlert:
    return PendingAlert(key, severity, late, T0 + seen, T0 + seen)


def test_nothing_waits() -> None:
    assert next_step(ChatState(free_at=T0 + SECOND), T0) == Idle()


def test_the_most_severe_goes_first_then_the_oldest() -> None:
    pending = [waiting("b"), waiting("a", seen=-2 * SECOND), waiting("c", Severity.critical)]
    assert next_step(ChatState(pending), T0) == SendAlert("c")
    assert next_step(ChatState(pending[:2]), T0) == SendAlert("a")


def test_a_chat_that_is_not_free_yet_is_waited_for() -> None:
    assert next_step(ChatState([waiting("a")], free_at=T0 + SECOND), T0) == Wait(T0 + SECOND)


def test_late_and_outdated_alerts_wait_for_more_and_go_into_one_digest() -> None:
    old = -LATE_AFTER - SECOND
    pending = [waiting("late", late=True, seen=-SECOND), waiting("old", Severity.critical, seen=old)]
    assert next_step(ChatState(pending[:1]), T0) == Wait(T0 - SECOND + DIGEST_WAIT)
    assert next_step(ChatState(pending), T0) == SendDigest(["old", "late"], [])
    last = T0 - DIGEST_EVERY + SECOND
    assert next_step(ChatState(pending, last_digest=last), T0) == Wait(last + DIGEST_EVERY)


def test_a_storm_sends_the_top_ones_alone_and_the_rest_in_a_digest() -> None:
    minor = [waiting(f"m{i:03}", Severity.medium, seen=-DIGEST_WAIT) for i in range(200)]
    major = [waiting("big", Severity.critical)]
    alone = [T0 - i * SECOND for i in range(1, BURST)]
    assert next_step(ChatState(minor + major, sent_alone=alone), T0) == SendAlert("big")
    step = next_step(ChatState(minor, sent_alone=[T0, *alone]), T0)
    assert isinstance(step, SendDigest)
    assert len(step.alert_keys) == 200
    later = T0 + FLOOD_WINDOW - SECOND
    assert next_step(ChatState(minor, sent_alone=[T0, *alone]), later) == SendAlert("m000")


def test_uncertain_ones_are_named_in_a_digest() -> None:
    assert next_step(ChatState(unlisted=["x"]), T0) == SendDigest([], ["x"])
    last = T0 - SECOND
    assert next_step(ChatState(unlisted=["x"], last_digest=last), T0) == Wait(last + DIGEST_EVERY)


def test_a_muted_chat_hears_only_what_is_critical() -> None:
    until = T0 + 60 * SECOND
    muted = ChatState([waiting("a"), waiting("b", late=True, seen=-60 * SECOND)], ["x"], held_until=until)
    assert next_step(muted, T0) == Wait(until)
    assert next_step(ChatState([waiting("c", Severity.critical)], held_until=until), T0) == SendAlert("c")
    assert next_step(ChatState(held_until=until), T0) == Idle()


def test_the_gaps_follow_telegrams_limits() -> None:
    limits = Limits()
    assert chat_free_at("1", [], limits) is None
    minute = [T0 - i * SECOND for i in range(30)]
    assert chat_free_at("1", minute, limits) == T0 + SECOND
    assert chat_free_at("-1", minute, limits) == T0 - 19 * SECOND + 60 * SECOND
    assert chat_free_at("-1", minute[:19], limits) == T0 + SECOND
    assert [backoff(n).total_seconds() for n in (1, 2, 3, 9, 50)] == [1, 2, 4, 256, 300]
