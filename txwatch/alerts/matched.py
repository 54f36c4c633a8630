"""Alerts of users' rules: matches that no alert names yet, and how many a rule's cap held back.

A match is recorded before it alerts (`txwatch.rules.matches`). So whatever ends between the two, it is raised later,
and once.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from txwatch.alerts.alert import ScoredTransaction
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.rules.matches import Matched
from txwatch.rules.rule import MOST_UNTOLD
from txwatch.store.database import Connection, statement

_reason = msgspec.json.Decoder(Reason)


@dataclass(frozen=True)
class UntoldMatches:
    """Matches that no alert names, by transaction: of those without an alert (`new`), and of those that have one."""

    new: dict[str, ScoredTransaction]
    again: list[ScoredTransaction]

    def beside(self, unusual: Iterable[ScoredTransaction]) -> list[ScoredTransaction]:
        """What was found unusual together with the matches, each transaction once."""
        found = {one.score.txid: one for one in unusual}
        for txid, one in self.new.items():
            found[txid] = replace(found[txid], matched=one.matched) if txid in found else one
        return list(found.values())


def read_matched(connection: Connection, start: datetime, end: datetime, now: datetime) -> UntoldMatches:
    """The matches of transactions seen in [start, end) that alert, and that no alert names."""
    untold = UntoldMatches({}, [])
    again: dict[str, ScoredTransaction] = {}
    rows = connection.execute(statement("alerts", "select_matched"), {"start": start, "end": end, "now": now})
    for txid, seen_at, severity, seconds, reason, channels, source, version, pattern, has_alert in rows:
        within = None if seconds is None else timedelta(seconds=seconds)
        matched = Matched(txid, seen_at, Severity[severity], _reason.decode(reason), within, tuple(channels or ()))
        by_txid = again if has_alert else untold.new
        known = by_txid.get(txid) or ScoredTransaction(_no_score(txid, seen_at, pattern), source, version)
        by_txid[txid] = replace(known, matched=(*known.matched, matched))
    untold.again.extend(again.values())
    return untold


def _no_score(txid: str, seen_at: datetime, pattern: int | None) -> Score:
    """That of a transaction of which a rule alone has something to say."""
    return Score(txid, seen_at, math.nan, math.nan, False, [], pattern)


def tell_held_back(
    connection: Connection, start: datetime, end: datetime, now: datetime, every: timedelta = timedelta(0)
) -> int:
    """Tell how many matches caps held back in the hours of [start, end), in the caller's transaction.

    One line in the last alert of each rule and hour, not more often than `every`. Returns how many.
    """
    given = {"start": start, "end": end, "now": now, "every": every, "most_untold": MOST_UNTOLD}
    return connection.execute(statement("alerts", "tell_held_back"), given).rowcount
