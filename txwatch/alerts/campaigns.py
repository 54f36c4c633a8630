"""Campaigns: transactions that are alike share the alert of the first of them, whose message counts the others.

A campaign is one event. A kind says how near to each other its findings are one event (`Kind.one_alert_within`), and so
may a rule; the forest's and a rule's are one if they are of one pattern as well (`txwatch.detection.patterns`). What
joins later is told as an update of the alert, so the budget, the chats and the pages count one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from txwatch.alerts.alert import Alert
from txwatch.detection.patterns import is_material
from txwatch.detection.reasons import btc
from txwatch.store.database import Connection, statement

IMMATERIAL_WITHIN = timedelta(days=1)
"""A pattern of no material value is news once a day."""
TOLD_EVERY = timedelta(minutes=1)
"""A message is not edited more often as its campaign grows."""


@dataclass
class Campaign:
    """The first and the last time (UTC) at which one of its transactions was seen, and the alert of all of them."""

    event: str
    alert_key: str
    first_seen_at: datetime
    last_seen_at: datetime

    def takes(self, alert: Alert) -> bool:
        """Whether an alert of the same event is near enough to be of this campaign."""
        within = _within(alert)
        return self.first_seen_at - within <= alert.seen_at <= self.last_seen_at + within


@dataclass
class Campaigns:
    """Known campaigns by event. `joined` are the alerts that became part of one, each with the campaign's alert."""

    by_event: dict[str, list[Campaign]] = field(default_factory=dict)
    joined: list[tuple[Alert, str]] = field(default_factory=list)

    def first_of_each(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts that begin a campaign, or are of none, in order of time. The others join theirs."""
        first = []
        for alert in sorted(alerts, key=lambda alert: (alert.seen_at, alert.alert_key)):
            if alert.event is None:
                first.append(alert)
                continue
            known = self.by_event.setdefault(alert.event, [])
            campaign = next((campaign for campaign in known if campaign.takes(alert)), None)
            if campaign is None:
                campaign = Campaign(alert.event, alert.alert_key, alert.seen_at, alert.seen_at)
                known.append(campaign)
                first.append(alert)
            campaign.first_seen_at = min(campaign.first_seen_at, alert.seen_at)
            campaign.last_seen_at = max(campaign.last_seen_at, alert.seen_at)
            self.joined.append((alert, campaign.alert_key))
        return first


def _within(alert: Alert) -> timedelta:
    within = alert.alike_within or timedelta(0)
    kind, _, pattern = (alert.event or "").rpartition(":")
    immaterial = kind == "forest" and not is_material(np.array([int(pattern)])).all()
    return IMMATERIAL_WITHIN if immaterial else within


def read_campaigns(connection: Connection, alerts: Sequence[Alert]) -> Campaigns:
    """The campaigns that any of these alerts could be part of."""
    of_events = [alert for alert in alerts if alert.event is not None]
    campaigns = Campaigns()
    if of_events:
        seen = [alert.seen_at for alert in of_events]
        within = max(map(_within, of_events))
        rows = connection.execute(
            statement("alerts", "select_campaigns"),
            {
                "events": sorted({alert.event for alert in of_events if alert.event}),
                "since": min(seen) - within,
                "until": max(seen) + within,
            },
        )
        for row in rows:
            campaigns.by_event.setdefault(row[0], []).append(Campaign(*row))
    return campaigns


def insert_joined(connection: Connection, campaigns: Campaigns) -> None:
    """Insert what joined, in the caller's transaction, and tell of campaigns that grew, each once in TOLD_EVERY."""
    if not campaigns.joined:
        return
    rows = sorted((alert.alert_key, key, alert.event, alert.seen_at) for alert, key in campaigns.joined)
    txids, keys, events, seen = map(list, zip(*rows, strict=True))
    given = {"txids": txids, "keys": keys, "events": events, "seen": seen}
    connection.execute(statement("alerts", "insert_campaign_transactions"), given)
    now = max(alert.created_at for alert, _ in campaigns.joined)
    grown = {key for alert, key in campaigns.joined if key != alert.alert_key}
    if grown:
        _tell(connection, sorted(grown), now, TOLD_EVERY)


def tell_campaigns(connection: Connection, start: datetime, end: datetime, now: datetime) -> None:
    """Tell how large the campaigns are that grew in [start, end), in the caller's transaction."""
    rows = connection.execute(
        "SELECT DISTINCT alert_key FROM campaign_transactions"
        " WHERE seen_at >= %s AND seen_at < %s AND alert_key <> txid ORDER BY alert_key",
        [start, end],
    ).fetchall()
    if rows:
        _tell(connection, [key for (key,) in rows], now, timedelta(0))


def _tell(connection: Connection, keys: Sequence[str], now: datetime, every: timedelta) -> None:
    sizes = connection.execute(statement("alerts", "campaign_sizes"), {"keys": keys}).fetchall()
    said = {
        "keys": [key for key, *_ in sizes],
        "sizes": [count for _, count, *_ in sizes],
        "texts": [_text(*size) for _, *size in sizes],
    }
    connection.execute(statement("alerts", "tell_campaigns"), said | {"now": now, "every": every})


def _text(
    count: int, since: datetime, inputs: Sequence[int], outputs: Sequence[int], values: Sequence[int], total: int
) -> str:
    """`inputs`, `outputs` and `values` (satoshi) are least and most."""
    each = btc(values[0]) if values[0] == values[1] else f"{btc(values[0])} to {btc(values[1])}"
    return (
        f"🔁 {count:,} alike since {since:%H:%M:%S}: {_range(inputs)} in, {_range(outputs)} out, {each} each,"
        f" {btc(total)} in all"
    )


def _range(bounds: Sequence[int]) -> str:
    low, high = bounds
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
