"""How an alert's amount stands among what was seen before it, in words that are true.

Of whales every one is kept, so that their order is exact. Of all transactions the network's histograms have the counts:
what lies in the bin of an amount may be smaller than it by a twelfth, and is counted as if it were as large. So "above
anything" is certain, and a number is the most that there can have been.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql
from psycopg.errors import QueryCanceled

from txwatch.alerts.alert import Alert
from txwatch.alerts.messages import ordinal
from txwatch.clock import WINDOW, context_window, window_start
from txwatch.features.network import fee_rate_bin, value_bin
from txwatch.store.database import Connection, statement
from txwatch.wire.transaction import Transaction

WHALES_LOOKED_BACK, LOOKED_BACK = timedelta(days=30), timedelta(days=7)
"""Of whales each is a row; of all transactions each five minutes are two histograms to read, before every message."""
MOST_MS = 400
"""For the looking: a message that is late is worse than one without this line."""
LEAST_HISTORY = timedelta(hours=1)
"""With less nothing is said: everything is the largest of a few minutes."""
MOST_UNCOUNTED = timedelta(hours=1)
"""Time before it that windows may not have been counted for, so that rows are read instead."""
FIRST_PLACES = 5
"""Of whales; what comes after them is one of many."""
RARE = 0.001
"""Share of transactions as large, up to which an amount is worth a word."""
FEES = frozenset({"fee_accident", "package_fee"})


@dataclass(frozen=True)
class Standing:
    """Of `seen` that were seen since `since` so many were as large or larger."""

    what: str
    as_large: int
    seen: int
    since: datetime

    def words(self, at: datetime) -> str:
        """For a reader of an alert about something that was seen at this moment."""
        span = _span(at - self.since)
        if self.what == "whale" and not self.seen:
            return f"the first whale in {span}"
        if self.what == "whale":
            if not self.as_large:
                return f"larger than any whale in {span}"
            if self.as_large >= FIRST_PLACES:
                return f"one of {self.seen + 1:,} whales in {span}"
            return f"{ordinal(self.as_large + 1)} largest of {self.seen + 1:,} whales in {span}"
        if not self.as_large:
            return f"{self.what} above anything in {span}"
        most = "one" if self.as_large == 1 else f"{self.as_large:,}"
        return f"{self.what} that at most {most} of {self.seen:,} transactions had in {span}"


def read_standing(connection: Connection, alert: Alert, transaction: Transaction) -> str | None:
    """How it stands among what was seen before it; None if that is nothing special, or not known within MOST_MS."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(f"{MOST_MS}ms"))
            found = _found(connection, alert, transaction)
    except QueryCanceled:
        return None
    if found is None or alert.seen_at - found.since < LEAST_HISTORY:
        return None
    return found.words(alert.seen_at)


def _found(connection: Connection, alert: Alert, transaction: Transaction) -> Standing | None:
    moved = next((r.value for r in alert.reasons if r.kind == "whale" and r.value is not None), None)
    return _of_amounts(connection, alert, transaction) if moved is None else _of_whale(connection, alert, moved)


def _of_whale(connection: Connection, alert: Alert, moved_sat: float) -> Standing | None:
    at = alert.seen_at
    given = {"since": at - WHALES_LOOKED_BACK, "uncounted_since": at - MOST_UNCOUNTED, "seen_at": at}
    row = connection.execute(statement("alerts", "standing_of_whale"), {**given, "moved_sat": moved_sat}).fetchone()
    if row is None:
        return None
    since, seen, as_large = row
    return Standing("whale", as_large, seen, since)


def _of_amounts(connection: Connection, alert: Alert, transaction: Transaction) -> Standing | None:
    """By total output or fee rate, whichever is rarer.

    The windows up to its context are counted by their histograms, what came after them row by row.
    """
    rate, at = transaction.fee_rate, alert.seen_at
    of_fee = bool(FEES & set(alert.kinds))
    given = {
        "since": at - LOOKED_BACK,
        "until": context_window(window_start(at)) + WINDOW,
        "uncounted_since": at - MOST_UNCOUNTED,
        "seen_at": at,
        "value_sat": transaction.value_sat,
        "value_bin": None if of_fee else value_bin(transaction.value_sat),
        "fee_rate": rate,
        "fee_rate_bin": fee_rate_bin(rate or 0.0),
    }
    row = connection.execute(statement("alerts", "standing"), given).fetchone()
    if row is None or at - row[1] > MOST_UNCOUNTED:
        return None
    since, _, seen, as_large, as_high = row
    by_fee = [] if rate is None else [Standing("fee rate", as_high, seen, since)]
    by_value = [] if of_fee else [Standing("total output", as_large, seen, since)]
    rare = [one for one in (*by_value, *by_fee) if one.as_large <= RARE * one.seen]
    return min(rare, key=lambda one: one.as_large, default=None)


def _span(length: timedelta) -> str:
    hours = int(length / timedelta(hours=1))
    return f"{hours // 24} days" if hours >= 48 else "an hour" if hours == 1 else f"{hours} hours"
