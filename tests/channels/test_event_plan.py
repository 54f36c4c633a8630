"""What a webhook gets next: by state alone, without a database."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import T0
from txwatch.alerts.planning import ChannelState, EditAlert, Idle, PendingAlert, SendAlert, Step, Wait, next_step
from txwatch.detection.kinds import Severity

HOUR = timedelta(hours=1)


def pending(key: str, attempts: int = 0, severity: Severity = Severity.high, seconds: int = 0) -> PendingAlert:
    at = T0 + timedelta(seconds=seconds)
    return PendingAlert(key, "whale", severity, False, at, at, attempts=attempts)


def hook(*waiting: PendingAlert, outdated: tuple[str, ...] = (), failures: int = 0) -> ChannelState:
    return ChannelState(pending=waiting, outdated=outdated, failures=failures, kind="webhook")


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (hook(), Idle()),
        (hook(pending("a", seconds=1), pending("b")), SendAlert("b")),
        (hook(pending("a"), pending("b", severity=Severity.critical, seconds=1)), SendAlert("b")),
        (hook(pending("a", attempts=1), pending("b", seconds=1)), SendAlert("b")),
        (hook(pending("a"), outdated=("b",)), SendAlert("a")),
        (hook(pending("a", attempts=3), outdated=("b",)), EditAlert("b")),
        (hook(pending("a", attempts=3), outdated=("b",), failures=1), SendAlert("a")),
        (hook(pending("a", attempts=3), outdated=("b", "c"), failures=2), EditAlert("c")),
        (hook(pending("a", attempts=3), outdated=("b", "c"), failures=4), EditAlert("b")),
        (hook(outdated=("b", "c"), failures=1), EditAlert("b")),
        (hook(outdated=("b", "c"), failures=3), EditAlert("c")),
    ],
)
def test_what_was_not_taken_lets_others_go_first_and_alerts_and_updates_take_turns(
    state: ChannelState, step: Step
) -> None:
    assert next_step(state, T0) == step


def test_a_storm_has_no_digest_and_what_is_late_comes_alone() -> None:
    late = [replace(pending(str(n)), late=True) for n in range(100)]
    assert next_step(hook(*late), T0 + 24 * HOUR) == SendAlert("0")


def test_in_quiet_hours_all_but_critical_alerts_wait() -> None:
    quiet = replace(hook(pending("a")), held_until=T0 + HOUR)
    assert next_step(quiet, T0) == Wait(T0 + HOUR)
    assert next_step(replace(quiet, pending=[pending("c", severity=Severity.critical)]), T0) == SendAlert("c")
    assert next_step(quiet, T0 + HOUR) == SendAlert("a")


@pytest.mark.parametrize("kind", ["telegram", "webhook", "apprise"])
def test_what_is_disabled_gets_nothing(kind: str) -> None:
    state = ChannelState(pending=[pending("a")], outdated=["b"], kind=kind, disabled=True)  # type: ignore[arg-type]
    assert next_step(state, T0 + HOUR) == Idle()
    assert next_step(replace(state, disabled=False), T0) != Idle()


def test_what_cannot_be_edited_gets_no_updates() -> None:
    assert next_step(ChannelState(outdated=["b"], kind="apprise"), T0) == Idle()
