"""One alert for a transaction, with all its kinds; tags alone raise none; what comes late is marked late."""

from datetime import UTC, datetime, timedelta

import pytest

from txwatch.alerts.alert import (
    LATE_AFTER,
    Alert,
    ScoredTransaction,
    is_late,
    most_severe_first,
    raise_alerts,
)
from txwatch.alerts.campaigns import Campaigns
from txwatch.detection.kinds import KINDS, Severity
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.wire.transaction import Origin

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
FEE, WHALE, JOIN, FOREST = (Reason(kind, f"text of {kind}") for kind in ("fee_accident", "whale", "coinjoin", "forest"))


def scored(*reasons: Reason, score: float = 0.4, source: Origin = "feed", seen_at: datetime = T0) -> ScoredTransaction:
    unusual = bool(reasons) or score >= 0.6
    return ScoredTransaction(Score("aa" * 32, seen_at, score, 0.6, unusual, list(reasons)), source, "7")


def raised(one: ScoredTransaction) -> Alert | None:
    alerts = raise_alerts([one], T0 + timedelta(seconds=1))
    return alerts[0] if alerts else None


def test_all_kinds_of_a_transaction_are_in_one_alert_the_most_severe_first() -> None:
    alert = raised(scored(JOIN, FOREST, WHALE, FEE, score=0.7))
    assert alert is not None
    assert alert.kinds == ["fee_accident", "whale", "forest", "coinjoin"]
    assert [reason.kind for reason in alert.reasons] == alert.kinds
    assert (alert.alert_key, alert.severity, alert.late, alert.model_version) == (
        "aa" * 32,
        Severity.critical,
        False,
        "7",
    )


def test_tags_alone_and_ordinary_transactions_raise_nothing() -> None:
    assert raised(scored(JOIN)) is None
    assert raised(scored()) is None


def test_a_score_at_the_threshold_alerts_even_without_a_reason() -> None:
    alert = raised(scored(score=0.6))
    assert alert is not None
    assert (alert.kinds, alert.reasons) == (["forest"], [])


def test_a_kind_that_is_not_in_the_table_still_alerts() -> None:
    alert = raised(scored(Reason("brand_new_rule", "something")))
    assert alert is not None
    assert (alert.kinds, alert.severity) == (["brand_new_rule"], Severity.medium)


@pytest.mark.parametrize(
    ("source", "age", "late"),
    [
        ("feed", timedelta(seconds=1), False),
        ("feed", LATE_AFTER, False),
        ("feed", LATE_AFTER + timedelta(seconds=1), True),
        ("bulk", timedelta(0), True),
        ("block", timedelta(0), True),
    ],
)
def test_recovered_and_old_transactions_are_late(source: Origin, age: timedelta, late: bool) -> None:
    assert is_late(source, T0, T0 + age) is late


def test_a_storm_is_one_alert_unless_another_kind_raised_it_too() -> None:
    dust = Reason("dust_storm", "the same dust to 40 addresses")
    minutes = (0, 3, 29, 31, 90)
    storm = [raised(scored(dust, JOIN, seen_at=T0 + timedelta(minutes=n))) for n in minutes]
    both = raised(scored(dust, WHALE, seen_at=T0 + timedelta(minutes=1)))
    alerts = [alert for alert in [*storm, both] if alert is not None]
    assert len(alerts) == len(minutes) + 1
    first = Campaigns().first_of_each(alerts)
    # The one at 31 minutes is near to the one at 29, which is of the storm.
    assert [(a.seen_at - T0) // timedelta(minutes=1) for a in first] == [0, 1, 90]


def test_the_most_severe_kind_comes_first() -> None:
    assert most_severe_first(KINDS)[0] == "fee_accident"
