"""`transaction_scores` in Postgres: windows are scored from stored features, and no score is ever changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from txwatch.clock import WINDOW
from txwatch.detection.model import Model
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score import Score, score_features
from txwatch.detection.threshold import read_recent_scores
from txwatch.features.store import read_features
from txwatch.labels.whales import record_whales
from txwatch.store.database import Connection, statement

MAX_EXAMPLES = 20


@dataclass(frozen=True)
class ScoredWindow:
    """What was scored of one window: all, newly written, and landed without features. `anomalies` are found unusual.

    Of `compared` transactions the live lane had written the score before; of those, `differing` came out otherwise.
    `threshold` is None if the window is empty.
    """

    window_start: datetime
    scored: int
    written: int
    unscored: int
    compared: int
    differing: int
    threshold: float | None
    anomalies: list[Score]

    def markdown(self) -> str:
        """The most unusual ones as a table."""
        lines = []
        for score in sorted(self.anomalies, key=lambda s: -s.score)[:MAX_EXAMPLES]:
            first = score.reasons[0].text if score.reasons else "no single feature stands out"
            lines.append(f"| `{score.txid[:16]}…` | {score.score:.3f} | {first} |")
        return "\n".join(["| transaction | score | first reason |", "| --- | --- | --- |", *lines])


def score_windows(
    connection: Connection,
    windows: Sequence[datetime],
    model: Model,
    *,
    whale_btc: float,
    whale_usd: float | None = None,
    lane: str = "window",
) -> list[ScoredWindow]:
    """Score the stored features of these windows, one database transaction each.

    The lane `shadow` is for a model that is not the champion: its scores raise no alerts.
    """
    detectors = CurrentDetectors(whale_btc, whale_usd)(connection)
    scored = []
    for window in windows:
        stored = read_features(connection, window)
        recent = read_recent_scores(connection, model.version, stored.context.network.as_of)
        scores = score_features(stored, model, detectors, recent)
        with connection.transaction():
            written = insert_scores(connection, scores, model.version, stored.context.network.version, lane=lane)
            [(compared, differing)] = connection.execute(statement("detection", "compare_with_live")).fetchall()
            if lane != "shadow":
                # The scores alone do not show it: where the live lane was first, there is nothing to write.
                connection.execute(
                    "INSERT INTO scored_windows (window_start, model_version) VALUES (%s, %s)"
                    " ON CONFLICT (window_start) DO UPDATE"
                    " SET model_version = excluded.model_version, scored_at = clock_timestamp()",
                    [window, model.version],
                )
        landed = connection.execute(
            "SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s", [window, window + WINDOW]
        )
        scored.append(
            ScoredWindow(
                window,
                scored=len(scores),
                written=written,
                unscored=landed.fetchall()[0][0] - len(scores),
                compared=compared,
                differing=differing,
                threshold=scores[-1].threshold if scores else None,
                anomalies=[score for score in scores if score.is_anomaly],
            )
        )
    return scored


def insert_scores(
    connection: Connection, scores: Sequence[Score], model_version: str, context_version: int, *, lane: str
) -> int:
    """Insert the missing scores, in the caller's transaction, and record whales. Returns how many were missing.

    Whales of the lane `shadow` are not recorded.
    """
    connection.execute(statement("detection", "stage_scores"))
    with connection.cursor().copy(
        "COPY staged_scores (txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly,"
        " reasons, pattern) FROM STDIN"
    ) as copy:
        for s in scores:
            reasons = msgspec.json.encode(s.reasons).decode()
            of_model = (s.txid, model_version, context_version, s.seen_at, lane)
            copy.write_row((*of_model, s.score, s.threshold, s.is_anomaly, reasons, s.pattern))
    if lane != "shadow":
        whales = ((s.txid, reason.value) for s in scores for reason in s.reasons if reason.kind == "whale")
        record_whales(connection, {txid: int(moved) for txid, moved in whales if moved is not None})
    return connection.execute(statement("detection", "insert_scores")).rowcount
