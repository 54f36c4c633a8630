"""What rules matched, in Postgres: each match once, as an alert, as a test, or held back by the rule's cap an hour.

The hour is that of the clock, UTC, in which the transaction was seen. So the cap holds whatever lane finds a match
first, and in whatever order. Of what does not alert MOST_UNTOLD are recorded of a rule and an hour: one that matches
everything takes neither the time of the lanes nor the disk.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import msgspec

from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.rules.evaluate import Match
from txwatch.rules.rule import MOST_UNTOLD
from txwatch.store.database import Connection, statement
from txwatch.store.locks import Lock, wait_for


@dataclass(frozen=True, slots=True)
class Matched:
    """A match that alerts. `alike_within`: matches of one pattern nearer to each other than this are one alert."""

    txid: str
    seen_at: datetime
    severity: Severity
    reason: Reason
    alike_within: timedelta | None = None
    channels: tuple[str, ...] = ()
    """The channels that it is for; none for all."""

    @classmethod
    def of(cls, match: Match) -> "Matched":
        """A match of a rule that was just followed."""
        return cls(
            match.txid,
            match.seen_at,
            match.rule.severity,
            match.reason,
            match.rule.one_alert_within,
            match.rule.channels,
        )


@dataclass(frozen=True)
class Recorded:
    """The new matches that alert, and the rules of which matches were held back."""

    alerts: list[Matched]
    held_back: list[str]


def record_matches(connection: Connection, matches: Sequence[Match]) -> Recorded:
    """Record the matches that are not there yet, in the caller's transaction, which holds the caps until its end."""
    if not matches:
        return Recorded([], [])
    wait_for(connection, Lock.RULE_CAPS)
    rows = [_row(match) for match in _recordable(matches)]
    given = {"most_untold": MOST_UNTOLD, "matches": msgspec.json.encode(rows).decode().replace("\\u0000", "\\ufffd")}
    outcomes = {
        (txid, name): outcome for txid, name, outcome in connection.execute(statement("rules", "record_matches"), given)
    }
    alerts = [match for match in matches if outcomes.get((match.txid, match.rule.name)) == "alert"]
    return Recorded(
        list(map(Matched.of, alerts)),
        sorted({name for (_, name), outcome in outcomes.items() if outcome == "held"}),
    )


def _recordable(matches: Sequence[Match]) -> list[Match]:
    """Of each rule and hour the first ones, as many as can be recorded."""
    count = Counter[tuple[str, datetime]]()
    first = []
    for match in sorted(matches, key=lambda match: (match.seen_at, match.txid)):
        place = match.rule.name, match.seen_at.replace(minute=0, second=0, microsecond=0)
        count[place] += 1
        if count[place] <= match.rule.recorded_per_hour:
            first.append(match)
    return first


def _row(match: Match) -> dict[str, object]:
    within = match.rule.one_alert_within
    return {
        "txid": match.txid,
        "rule": match.rule.name,
        "version": match.rule.version,
        "seen_at": match.seen_at,
        "severity": match.rule.severity.name,
        "mode": match.rule.mode,
        "cap": match.rule.alerts_per_hour,
        "alike_seconds": None if within is None else within // timedelta(seconds=1),
        "reason": asdict(match.reason),
    }
