"""The chat that plans without a network follows the rules of the real one."""

from datetime import timedelta
from itertools import pairwise

from tests.builders import T0
from txwatch.alerts.alert import Alert
from txwatch.alerts.planning import BURST
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.lab.evaluation.day import PlannedChat, Sent

SECOND = timedelta(seconds=1)


def alert(key: str, after: timedelta, severity: Severity = Severity.high, kind: str = "whale") -> Alert:
    at = T0 + after
    return Alert(key, [kind], severity, [Reason(kind, "x", "moved_sat", 6e10)], False, at, at)


def test_an_alert_goes_out_alone_and_at_once() -> None:
    chat = PlannedChat()
    chat.take([alert("a", SECOND)])
    chat.until(T0 + 60 * SECOND)
    assert chat.sent == {"a": Sent("alone", T0 + 1.1 * SECOND)}


def test_the_pace_is_one_a_second_and_a_flood_ends_in_a_digest() -> None:
    chat = PlannedChat()
    chat.take([alert(f"{n:02}", SECOND) for n in range(BURST + 5)])
    chat.until(T0 + 600 * SECOND)
    alone = sorted(sent.at for sent in chat.sent.values() if sent.how == "alone")
    digest = {sent.at for sent in chat.sent.values() if sent.how == "digest"}
    assert len(alone) == BURST
    assert min(after - before for before, after in pairwise(alone)) >= SECOND
    assert len(digest) == 1
    assert len(chat.sent) == BURST + 5
    assert chat.messages == BURST + 1


def test_what_is_critical_overtakes_what_waits() -> None:
    chat = PlannedChat()
    chat.take([alert(f"{n:02}", SECOND) for n in range(3)])
    chat.take([alert("accident", 1.5 * SECOND, Severity.critical, "fee_accident")])
    chat.until(T0 + 60 * SECOND)
    order = sorted(chat.sent, key=lambda key: chat.sent[key].at)
    assert order == ["00", "accident", "01", "02"]
