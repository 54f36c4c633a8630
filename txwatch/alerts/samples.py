"""A daily sample of transactions that raised no alert: people say of them too whether they would have wanted one.

Of what is alerted, answers tell how much was noise. What was missed only the rest can tell. So as many as the setting
says are drawn by hash from the most unusual hundredth of a day that raised nothing, and asked about like any alert. The
answers also teach the next model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scipy.special import betaincinv

from txwatch.alerts.alert import Alert, kind_named
from txwatch.alerts.store import insert_alerts
from txwatch.detection.reasons import Reason
from txwatch.store.database import Connection, statement

SAMPLE = "sample"
"""The kind of these alerts."""
DAY = timedelta(days=1)
SHARE = 0.01
"""The part of a day's transactions that is drawn from. Below it hardly anything is of interest to anybody."""
_CERTAINTY = 0.95


@dataclass(frozen=True)
class Misses:
    """Of `judged` transactions of samples so many would have been `useful`, drawn from `a_day` that raised nothing."""

    judged: int
    useful: int
    a_day: int

    @property
    def missed_a_day(self) -> tuple[float, float, float]:
        """How many a day would have been useful, and bounds with 95 % certainty (Clopper and Pearson, 1934)."""
        n, k, beyond = self.judged, self.useful, (1 - _CERTAINTY) / 2
        low = betaincinv(k, n - k + 1, beyond) if k else 0.0
        high = betaincinv(k + 1, n - k, 1 - beyond) if k < n else 1.0
        return self.a_day * k / n, self.a_day * float(low), self.a_day * float(high)


def raise_sample(connection: Connection, count: int, chats: Sequence[str], now: datetime) -> list[str]:
    """Ask about so many transactions of the day before `now`. Returns the keys of new alerts, at most `count`.

    The same day is asked about once: what was drawn first stays.
    """
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    given = {"since": day - DAY, "until": day, "share": SHARE, "count": count, "kind": SAMPLE}
    with connection.transaction():
        drawn = connection.execute(statement("alerts", "draw_sample"), given).fetchall()
        alerts = [
            Alert(
                alert_key=txid,
                kinds=[SAMPLE],
                severity=kind_named(SAMPLE).severity,
                reasons=[Reason(SAMPLE, f"more unusual than {higher:.2%} of its day, and below what is alerted")],
                late=False,
                seen_at=seen_at,
                created_at=now,
                model_version=version,
            )
            for txid, seen_at, version, higher in drawn
        ]
        return insert_alerts(connection, alerts, chats)


def read_misses(connection: Connection, since: datetime, now: datetime) -> Misses | None:
    """What people said of samples that were asked about since a moment; None if nothing."""
    given = {"since": since, "day": now - DAY, "now": now, "share": SHARE, "kind": SAMPLE}
    judged, useful, a_day = connection.execute(statement("alerts", "misses"), given).fetchone() or (0, 0, 0)
    return Misses(judged, useful, a_day) if judged else None
