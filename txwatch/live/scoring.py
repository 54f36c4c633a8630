"""Scores and alerts of the transactions that a batch has just landed, in the database transaction that lands them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from txwatch.alerts.raising import Alert, ScoredTransaction, raise_alerts
from txwatch.alerts.store import insert_alerts
from txwatch.clock import Clock, utc_now
from txwatch.detection.detectors import Detector
from txwatch.detection.model import Model
from txwatch.detection.recent_scores import read_recent_scores
from txwatch.detection.score import find_by_rules, score
from txwatch.detection.scoring import insert_scores
from txwatch.features.live import LiveContext
from txwatch.store.database import Connection
from txwatch.wire.transaction import Transaction


@dataclass
class LiveScoring:
    """Called with each batch's new transactions (`txwatch.ingest.commit.Landed`).

    Without a champion the detectors alone raise alerts; the scores of what was landed then are written by the window
    lane. `raised` is called once a batch with alerts is committed.
    """

    champion: Callable[[], Model | None]
    detectors: Callable[[Connection], Sequence[Detector]]
    chats: Sequence[str] = ()
    raised: Callable[[], None] = lambda: None
    clock: Clock = utc_now
    _context: tuple[Connection, LiveContext] | None = field(default=None, init=False)

    def __call__(self, connection: Connection, transactions: Sequence[Transaction]) -> Callable[[], None] | None:
        """Write scores and alerts. Gives what is to be done once they are committed."""
        model = self.champion()
        version = None if model is None else model.version
        detectors = self.detectors(connection)
        alerts: list[Alert] = []
        for batch, context in self._context_on(connection).split(transactions):
            if model is None:
                scores = find_by_rules(batch, context, detectors)
            else:
                recent = read_recent_scores(connection, model.version, context.network.as_of)
                scores = score(batch, context, model, detectors, recent)
                insert_scores(connection, scores, model.version, context.network.version, lane="live")
            scored = (ScoredTransaction(one, tx.source, version) for one, tx in zip(scores, batch, strict=True))
            alerts += raise_alerts(scored, self.clock())
        if alerts and insert_alerts(connection, alerts, self.chats):
            return self.raised
        return None

    def _context_on(self, connection: Connection) -> LiveContext:
        """The context for this connection: after a reconnection a new one looks at the database afresh."""
        if self._context is None or self._context[0] is not connection:
            self._context = (connection, LiveContext(connection))
        return self._context[1]
