"""`transaction_scores` in Postgres: stored features of a window go through the one scoring path, and what is missing
is inserted. Nothing is ever changed: a score that an alert was sent for stays as it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from txwatch.clock import WINDOW, context_window
from txwatch.detection.detectors import CurrentDetectors
from txwatch.detection.model import Model
from txwatch.detection.score import Score, score_features
from txwatch.detection.threshold import read_recent_scores
from txwatch.features.batch import TransactionBatch
from txwatch.features.store import read_features
from txwatch.labels.whales import record_whales
from txwatch.store.database import Connection, statement

MAX_EXAMPLES = 20
# The scores alone do not tell: where the live lane was first, there is nothing to write.
_SCORED = (
    "INSERT INTO scored_windows (window_start, model_version) VALUES (%(window)s, %(model)s)"
    " ON CONFLICT (window_start) DO UPDATE SET model_version = excluded.model_version, scored_at = clock_timestamp()"
)


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
        lines = [
            f"| `{score.txid[:16]}…` | {score.score:.3f} | {_first_reason(score)} |"
            for score in sorted(self.anomalies, key=lambda s: -s.score)[:MAX_EXAMPLES]
        ]
        return "\n".join(["| transaction | score | first reason |", "| --- | --- | --- |", *lines])


def score_windows(
    connection: Connection, windows: Sequence[datetime], model: Model, *, whale_btc: float, lane: str = "window"
) -> list[ScoredWindow]:
    """Score the stored features of these windows, one database transaction each.

    In the lane `shadow` a model that is not the champion shows what it would say; alerts leave those scores alone.
    """
    detectors = CurrentDetectors(whale_btc)(connection)
    scored = []
    for window in windows:
        stored = read_features(connection, window)
        network = stored.context.network
        batch = TransactionBatch.of(stored.transactions)
        recent = read_recent_scores(connection, model.version, context_window(window))
        scores = score_features(stored.transactions, batch, stored.features, network, model, detectors, recent)
        with connection.transaction():
            written = insert_scores(connection, scores, model.version, network.version, lane=lane)
            compared, differing = _compare_with_live(connection)
            if lane != "shadow":
                connection.execute(_SCORED, {"window": window, "model": model.version})
        scored.append(
            ScoredWindow(
                window,
                scored=len(scores),
                written=written,
                unscored=_count_transactions(connection, window) - len(scores),
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
    """Insert the scores that are not there yet, in the caller's transaction. Returns how many were.

    Whales among them enter the history of whales, unless nobody is told of this lane.
    """
    connection.execute(statement("detection", "stage_scores"))
    with connection.cursor().copy(
        "COPY staged_scores (txid, model_version, context_version, seen_at, lane, score, threshold, is_anomaly,"
        " reasons) FROM STDIN"
    ) as copy:
        for score in scores:
            copy.write_row(
                (
                    score.txid,
                    model_version,
                    context_version,
                    score.seen_at,
                    lane,
                    score.score,
                    score.threshold,
                    score.is_anomaly,
                    msgspec.json.encode(score.reasons).decode(),
                )
            )
    if lane != "shadow":
        record_whales(connection, _moved_by_whales(scores))
    return connection.execute(statement("detection", "insert_scores")).rowcount


def _moved_by_whales(scores: Sequence[Score]) -> dict[str, int]:
    return {
        score.txid: int(reason.value)
        for score in scores
        for reason in score.reasons
        if reason.kind == "whale" and reason.value is not None
    }


def _compare_with_live(connection: Connection) -> tuple[int, int]:
    row = connection.execute(statement("detection", "compare_with_live")).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _first_reason(score: Score) -> str:
    return score.reasons[0].text if score.reasons else "no single feature stands out"


def _count_transactions(connection: Connection, window: datetime) -> int:
    row = connection.execute(
        "SELECT count(*) FROM transactions WHERE seen_at >= %s AND seen_at < %s", [window, window + WINDOW]
    ).fetchone()
    return int(row[0]) if row else 0
