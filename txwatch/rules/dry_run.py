"""What a rule would have raised: how many alerts an hour, which, and the largest, by the stored features of the past.

A window at a time, of which only what may fit the rule is read: so the memory is that of one window, whatever is asked.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from txwatch.clock import EPOCH, WINDOW, window_start
from txwatch.features.contract import FEATURE_NAMES
from txwatch.rules.evaluate import Match, RuleSet, Traffic
from txwatch.rules.look_ups import LookUps, never_true
from txwatch.rules.rule import Rule, leaves
from txwatch.rules.windows import read_candidates
from txwatch.store.database import Connection, statement

LARGEST = 10
NEWEST = 50
HOUR = timedelta(hours=1)
MOST_DAYS = 92
_MOVED = FEATURE_NAMES.index("moved_sat")


@dataclass(frozen=True, order=True)
class DryMatch:
    """A transaction that the rule would have matched, what likely moved in satoshi, and why."""

    moved_sat: float
    seen_at: datetime
    txid: str
    text: str


@dataclass(frozen=True)
class HourOfMatches:
    """The matches of an hour of the clock, and how many alerts they would have been within the cap."""

    since: datetime
    matches: int
    alerts: int


@dataclass
class DryRun:
    """What a rule would have matched in [since, until); for `hours_with_data` of the `hours` asked there were features.

    `without_price` counts windows in which comparisons in USD were false for want of a price. `newest` and `largest`
    are in that order. Hours without a match are left out of `by_hour`.
    """

    since: datetime
    until: datetime
    hours: float
    hours_with_data: float = 0.0
    matches: int = 0
    alerts: int = 0
    without_price: int = 0
    never_true: list[str] = field(default_factory=list)
    """Sentences about comparisons that fit no label that there is now, or no watched address."""
    complete: bool = True
    """False if it ended before it had looked at all of it: `hours_with_data` are those that it looked at."""
    by_hour: list[HourOfMatches] = field(default_factory=list)
    largest: list[DryMatch] = field(default_factory=list)
    newest: list[DryMatch] = field(default_factory=list)

    @property
    def matches_per_hour(self) -> float:
        """Without the cap, of the hours for which there was data."""
        return self.matches / self.hours_with_data if self.hours_with_data else 0.0

    @property
    def alerts_per_hour(self) -> float:
        """With the cap, of the hours for which there was data."""
        return self.alerts / self.hours_with_data if self.hours_with_data else 0.0


def dry_run(
    connection: Connection, rule: Rule, now: datetime, days: float, is_late: Callable[[], bool] = lambda: False
) -> DryRun:
    """Follow a rule through the stored windows of the last days, at most MOST_DAYS, from the newest. Writes nothing.

    It ends before a window once `is_late`: a rule that fits everything takes a tenth of a second a window.
    """
    until = window_start(now)
    since = until - max(1, round(timedelta(days=days) / WINDOW)) * WINDOW
    run = DryRun(since, until, hours=(until - since) / HOUR)
    run.never_true = never_true(connection, leaves(rule.when))
    rules, look_ups = RuleSet([rule]), LookUps.stored(connection)
    counts: dict[datetime, int] = {}
    for window in _windows(connection, since, until):
        if is_late():
            run.complete = False
            break
        run.hours_with_data += WINDOW / HOUR
        traffic = read_candidates(connection, rules, window, look_ups)
        judged = rules.judge(traffic, look_ups)
        run.without_price += rules.in_usd and look_ups.price_of(window) is None
        for match in judged.matches:
            hour = match.seen_at - (match.seen_at - EPOCH) % HOUR
            counts[hour] = counts.get(hour, 0) + 1
        found = [_dry(match, traffic) for match in judged.matches]
        run.largest = heapq.nlargest(LARGEST, [*run.largest, *found])
        run.newest += sorted(found, key=lambda one: one.seen_at, reverse=True)[: NEWEST - len(run.newest)]
    run.by_hour = [HourOfMatches(hour, n, min(n, rule.alerts_per_hour)) for hour, n in sorted(counts.items())]
    run.matches, run.alerts = sum(one.matches for one in run.by_hour), sum(one.alerts for one in run.by_hour)
    return run


def _windows(connection: Connection, since: datetime, until: datetime) -> Iterator[datetime]:
    """The windows for which there are features, the newest first."""
    found = connection.execute(statement("rules", "windows_with_features"), {"since": since, "until": until})
    yield from (window for (window,) in found.fetchall())


def _dry(match: Match, traffic: Traffic) -> DryMatch:
    moved = float(traffic.features[match.row, _MOVED])
    value = float(traffic.batch.value_sat[match.row]) if np.isnan(moved) else moved
    return DryMatch(value, match.seen_at, match.txid, match.reason.text)
