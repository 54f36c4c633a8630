"""From scores to alerts: one alert for a transaction, with all its kinds and reasons.

Pure, so that the live lane raises in the transaction that lands a batch, the window lane from stored scores, and a
backtest without any database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from txwatch.alerts.kinds import Severity, kind_named, most_severe_first
from txwatch.detection.kinds import raising
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.wire.transaction import Source

LATE_AFTER = timedelta(minutes=15)
"""An alert about something older is no news, and goes to a digest. The window lane takes five minutes and some."""

SYSTEM_PREFIX = "system:"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person is told. `alert_key` is the txid, or `system:...`; times UTC."""

    alert_key: str
    kinds: list[str]
    severity: Severity
    reasons: list[Reason]
    late: bool
    seen_at: datetime
    created_at: datetime
    model_version: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredTransaction:
    """A score with what decides on its alert besides: how the transaction came, and which model scored it.

    `model_version` is None for what rules found while there was no model.
    """

    score: Score
    source: Source
    model_version: str | None


def raise_alerts(scored: Iterable[ScoredTransaction], now: datetime) -> list[Alert]:
    """The alerts of these transactions, in their order. One that has tags only raises none."""
    return [alert for one in scored if one.score.is_anomaly and (alert := _alert(one, now)) is not None]


def event_kind(alert: Alert) -> str | None:
    """The kind whose findings are one event, if no other kind raised the alert."""
    found = raising(alert.kinds)
    kind = next(iter(found), None)
    return kind if kind is not None and len(found) == 1 and kind_named(kind).one_alert_within is not None else None


def first_of_events(alerts: Iterable[Alert], told: Mapping[str, Sequence[datetime]]) -> list[Alert]:
    """The alerts without those of events that were told of: a dust storm is one alert, not one for each transaction.

    `told` says when transactions were seen that alerted by such a kind. What another kind raised too always stays.
    """
    seen = {kind: list(moments) for kind, moments in told.items()}
    first = []
    for alert in sorted(alerts, key=lambda alert: (alert.seen_at, alert.alert_key)):
        kind = event_kind(alert)
        within = None if kind is None else kind_named(kind).one_alert_within
        if kind is not None and within is not None:
            moments = seen.setdefault(kind, [])
            if any(abs(alert.seen_at - moment) < within for moment in moments):
                continue
            moments.append(alert.seen_at)
        first.append(alert)
    return first


def is_late(source: Source, seen_at: datetime, now: datetime) -> bool:
    """Whether an alert raised now comes too late to go out as live: recovered, bulk-loaded or scored long after."""
    return source != "feed" or now - seen_at > LATE_AFTER


def _alert(scored: ScoredTransaction, now: datetime) -> Alert | None:
    score = scored.score
    kinds = [reason.kind for reason in score.reasons]
    if score.score >= score.threshold:
        # The forest may find no single feature that stands out, and then gives no reason.
        kinds.append("forest")
    severities = [kind_named(kind).severity for kind in raising(kinds)]
    if not severities:
        return None
    return Alert(
        alert_key=score.txid,
        kinds=most_severe_first(kinds),
        severity=max(severities),
        reasons=sorted(score.reasons, key=lambda reason: most_severe_first(kinds).index(reason.kind)),
        late=is_late(scored.source, score.seen_at, now),
        seen_at=score.seen_at,
        created_at=now,
        model_version=scored.model_version,
    )
