"""A database as the system leaves it after some hours: simulated traffic, features, two models, scores, alerts.

Made by the engine's own functions, without Dagster. Everything ends now, so that "the last hour" holds something.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tests.features.window_lane import materialize
from tests.registering import registered
from txwatch.alerts.health import conditions, read_health, record_health
from txwatch.alerts.store import raise_window_alerts, record_verdict
from txwatch.clock import WINDOW, utc_now, window_range, window_start
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.score_windows import score_windows
from txwatch.detection.training import train
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import count_messages, renew_lease, take_lease
from txwatch.store.prices import insert_price
from txwatch.store.sightings import FollowedSource, note_sources
from txwatch.store.transactions import QuarantinedMessage, quarantine
from txwatch.system.history import land_history
from txwatch.wire.prices import Price

HOURS = timedelta(minutes=100)
CHAT = "-1001234567890"
WHALE_BTC = 20.0
"""Low, so that a short history has some."""
USD_PRICE = 68_000.0
"""Of a bitcoin, from the fortieth minute on."""
TREES = 100
"""A tenth of the product's: how well they separate is no matter here, and each tree takes time to store and to load."""


@dataclass(frozen=True)
class Populated:
    """Where it is, and which versions there are."""

    database_url: str
    home: Path
    champion: str
    challenger: str


def populate(database_url: str, home: Path, *, rate: float = 2.5) -> Populated:
    """Fill an empty database."""
    with warnings.catch_warnings():
        # MLflow warns of its own code when it is imported.
        warnings.simplefilter("ignore")
        return _populate(database_url, home, rate)


def _populate(database_url: str, home: Path, rate: float) -> Populated:
    now = utc_now()
    start = window_start(now) - HOURS
    land_history(database_url, Simulator("2024-03", seed=5, start=start, rate=rate), now)
    with connect(database_url) as connection:
        # As if it had come by the feed.
        connection.execute("UPDATE transactions SET source = 'feed', landed_at = seen_at + interval '120 ms'")
        _observe_feed(connection, start, now)
        windows = window_range(start, window_start(now))
        materialize(connection, start, window_start(now))
        for minutes in range(40, HOURS // timedelta(minutes=1) + 5, 5):
            told_at = start + timedelta(minutes=minutes)
            insert_price(connection, Price(USD_PRICE, told_at, "blockchain.info"), told_at)
        champion, challenger = _train_two(connection, home, database_url, start, now)
        registry = ModelRegistry.of(home, database_url, None)
        for version, lane in ((champion, "window"), (challenger, "shadow")):
            score_windows(connection, windows, registry.load(version), whale_btc=WHALE_BTC, lane=lane)
        connection.execute("UPDATE transaction_scores SET scored_at = seen_at + interval '2 minutes'")
        raise_window_alerts(connection, start, now, [CHAT], now)
        _deliver(connection, now)
        _report_drift(connection, now)
        _check_health(connection, home, now)
    return Populated(database_url, home, champion, challenger)


def _observe_feed(connection: Connection, start: datetime, now: datetime) -> None:
    epoch = take_lease(connection, "test worker", start, None)
    renew_lease(connection, epoch, now, now, heard=True)
    count_messages(connection, received=10_000, duplicates=12, ignored=3)
    note_sources(
        connection,
        [
            FollowedSource("bitcoin-core", start, now, now, True, "Bitcoin Core 29.0 (main)", 1.0, 83),
            FollowedSource("blockchain.info", start, now, now, True, "connected", 1.0, 83),
        ],
    )
    for source, first, every in (("blockchain.info", 0, 1), ("bitcoin-core", 1, 20)):
        connection.execute(
            "INSERT INTO sightings SELECT txid, %s, seen_at + %s * interval '1 second' FROM transactions"
            " WHERE %s = 1 OR hashtext(txid) %% %s <> 0",
            [source, first, every, every],
        )
    connection.execute(
        "INSERT INTO block_completeness SELECT %s, source, 2000, 1900, 60, 20 FROM feed_sources", ["0" * 64]
    )
    outage = start + timedelta(minutes=20)
    record_gaps(connection, [FeedGap(outage, outage + timedelta(seconds=75), "connection closed")])
    quarantine(connection, [QuarantinedMessage(now, "not JSON: \x7f", b"{")])
    connection.execute(
        "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count, fetched_at, mined_count, seen_before_count)"
        " VALUES (%s, 834000, %s, %s, 2500, now(), 2000, 1990)",
        ["0" * 64, now - timedelta(minutes=9), now - timedelta(minutes=8)],
    )


def _train_two(
    connection: Connection, home: Path, database_url: str, start: datetime, now: datetime
) -> tuple[str, str]:
    registry = ModelRegistry.of(home, database_url, None)
    features = read_recent_features(connection, start)
    versions = []
    for seed in (1, 2):
        trained = train(
            features,
            start,
            window_start(now) + WINDOW,
            alerts_per_hour=30,
            whale_btc=WHALE_BTC,
            seed=seed,
            trees=TREES,
        )
        version = registered(registry, trained, features)
        versions.append(version)
        if seed == 1:
            registry.promote(version, {})
    return versions[0], versions[1]


def _deliver(connection: Connection, now: datetime) -> None:
    """Most are sent, one each is in every other state; some were judged."""
    connection.execute("UPDATE alert_deliveries SET state = 'sent', attempts = 1, sent_at = %s", [now])
    keys = [key for (key,) in connection.execute("SELECT alert_key FROM alerts ORDER BY seen_at DESC LIMIT 20")]
    for key, state in zip(keys, ("pending", "uncertain", "dead", "digested"), strict=False):
        connection.execute("UPDATE alert_deliveries SET state = %s WHERE alert_key = %s", [state, key])
    for i, key in enumerate(keys[4:]):
        record_verdict(connection, key, "noise" if i % 4 == 0 else "useful", now, "key:owner")
    connection.execute(
        "INSERT INTO alert_updates (alert_key, update_key, text, created_at) VALUES (%s, 'confirmed:x', %s, %s)",
        [keys[5], "confirmed in block 834,000, 9 min after it was seen", now],
    )


def _report_drift(connection: Connection, now: datetime) -> None:
    for hours, share in ((2, 0.0), (1, 0.125), (0, 0.25)):
        connection.execute(
            "INSERT INTO drift_reports (computed_at, model_version, seen_from, seen_to, rows, share, drifted, features,"
            " html) VALUES (%(at)s, '1', %(at)s - interval '1 hour', %(at)s, 9000, %(share)s, %(share)s > 0,"
            ' \'[{"feature": "fee_rate", "distance": 0.21, "limit": 0.08},'
            ' {"feature": "value_sat", "distance": 0.03, "limit": 0.07}]\','
            " '<!doctype html><h1>Drift report</h1><p>fee_rate moved.</p>')",
            {"at": now - timedelta(hours=hours), "share": share},
        )


def _check_health(connection: Connection, home: Path, now: datetime) -> None:
    before = now - timedelta(minutes=30)
    record_health(connection, conditions(read_health(connection, home, before), before), before)
    record_health(connection, conditions(read_health(connection, home, now), now), now)
