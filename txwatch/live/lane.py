"""The live lane: score each micro-batch with the champion, write its alerts with its rows, and deliver them."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import structlog

from txwatch.alerts.alert import ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import TOLD_EVERY
from txwatch.alerts.dispatcher import Chats, Dispatcher
from txwatch.alerts.hops import follow_coins
from txwatch.alerts.life import DoubleSpends, insert_confirmation_updates, insert_removal_updates
from txwatch.alerts.matched import tell_held_back
from txwatch.alerts.store import insert_alerts
from txwatch.clock import Clock, MonotoneClock, utc_now
from txwatch.detection.champion import Champion, Registry
from txwatch.detection.detector import Detector
from txwatch.detection.model import Model
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score import Score, find_by_rules, score_features, window_of
from txwatch.detection.score_windows import insert_scores
from txwatch.detection.threshold import read_recent_scores
from txwatch.features.batch import WindowFeatures
from txwatch.features.live import LiveContext
from txwatch.ingest.batch import Batch
from txwatch.ingest.prices import PriceKeeper
from txwatch.ingest.worker import IngestWorker, Shift
from txwatch.rules.evaluate import Match, RuleSet, Traffic, kinds_of
from txwatch.rules.look_ups import LookUps
from txwatch.rules.matches import Matched, record_matches
from txwatch.rules.store import CurrentRules, switch_off
from txwatch.settings import Settings
from txwatch.sources.chosen import ChosenSources
from txwatch.store.database import Connection
from txwatch.wire.transaction import Transaction


@dataclass
class LiveScoring:
    """The landing hook that scores new transactions, raises alerts and follows them. `raised` is called after a commit.

    Without a champion the detectors alone raise alerts, and the window lane writes the scores later.
    """

    champion: Callable[[], Model | None]
    detectors: Callable[[Connection], Sequence[Detector]]
    chats: Sequence[str] = ()
    raised: Callable[[], None] = lambda: None
    clock: Clock = utc_now
    rules: Callable[[Connection], tuple[RuleSet, LookUps]] = field(default_factory=CurrentRules)
    _context: tuple[Connection, LiveContext] | None = field(default=None, init=False)
    _has_raised: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._double_spends = DoubleSpends(self.chats)

    def write(self, connection: Connection, new: Sequence[Transaction]) -> None:
        """Write scores and alerts."""
        model = self.champion()
        version = None if model is None else model.version
        detectors = self.detectors(connection)
        scored: list[ScoredTransaction] = []
        matches: list[Match] = []
        for batch, context in self._context_on(connection).split(new):
            window = window_of(batch, context)
            if model is None:
                scores = find_by_rules(window, detectors)
            else:
                recent = read_recent_scores(connection, model.version, context.network.as_of)
                scores = score_features(window, model, detectors, recent)
                insert_scores(connection, scores, model.version, context.network.version, lane="live")
            scored += (ScoredTransaction(one, tx.source, version) for one, tx in zip(scores, batch, strict=True))
            matches += self._judge(connection, window, scores)
        recorded = record_matches(connection, matches)
        alerts = raise_alerts(_with_matches(scored, recorded.alerts), self.clock())
        raised = insert_alerts(connection, alerts, self.chats) if alerts else []
        written = follow_coins(connection, new, raised, self.clock())
        if recorded.held_back:
            seen = [match.seen_at for match in matches]
            written += tell_held_back(connection, min(seen), max(seen), self.clock(), TOLD_EVERY)
        if written or raised:
            self._has_raised = True

    def _judge(self, connection: Connection, window: WindowFeatures, scores: Sequence[Score]) -> list[Match]:
        """What users' rules match. One that cannot be followed is switched off."""
        rules, look_ups = self.rules(connection)
        if not rules.rules:
            return []
        traffic = Traffic(window.batch, window.features, kinds_of(scores))
        judged = rules.judge(traffic, look_ups, recordable=True)
        for name, cause in judged.failed.items():
            switch_off(connection, name, cause)
        return judged.matches

    def follow_up(self, connection: Connection, batch: Batch) -> None:
        """Write what became of alerted transactions, and the double spends that have lasted long enough by now."""
        now = self.clock()
        written = insert_removal_updates(connection, [removal.txid for removal in batch.removals], now)
        if batch.blocks or batch.removed_blocks:
            written += insert_confirmation_updates(connection, now)
        if written + self._double_spends.raise_due(connection, batch.seen_through, now):
            self._has_raised = True

    def committed(self) -> None:
        """Call `raised`, if anything was written since the last time; once too often if it was rolled back."""
        if self._has_raised:
            self._has_raised = False
            self.raised()

    def _context_on(self, connection: Connection) -> LiveContext:
        """The context for this connection; a new connection reads the database afresh."""
        if self._context is None or self._context[0] is not connection:
            self._context = (connection, LiveContext(connection))
        return self._context[1]


def _with_matches(scored: Sequence[ScoredTransaction], alerting: Iterable[Matched]) -> Sequence[ScoredTransaction]:
    """The transactions, each with those of these matches that are its own."""
    by_txid: dict[str, list[Matched]] = {}
    for match in alerting:
        by_txid.setdefault(match.txid, []).append(match)
    return [replace(one, matched=by_txid[txid]) if (txid := one.score.txid) in by_txid else one for one in scored]


log = structlog.get_logger(__name__)


class Delivery:
    """Delivers alerts in a thread from `start` to `stop`. `wake`, after a commit, may be called from any thread."""

    def __init__(self, dispatcher: Callable[[], AbstractAsyncContextManager[Dispatcher]]) -> None:
        self._open = dispatcher
        self._thread = threading.Thread(target=lambda: asyncio.run(self._deliver()), name="delivery", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look for alerts now, not at the next second."""
        if self._loop is not None and self._dispatcher is not None:
            self._call(self._dispatcher.wake)

    def stop(self, seconds: float) -> None:
        """End after the current request. Other alerts wait in the database."""
        self._ready.wait(seconds)
        self._call(self._stop.set)
        self._thread.join(seconds)

    def _call(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    async def _deliver(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        try:
            async with self._open() as dispatcher:
                self._dispatcher = dispatcher
                await dispatcher.run(self._stop)
        except Exception:
            log.exception("delivery_ended")  # the sensors go on delivering


STOP_SECONDS = 5.0


class LiveLane:
    """One shift of the live lane. Landing begins at once, scoring when the champion is loaded."""

    def __init__(
        self,
        *,
        database_url: str,
        sources: ChosenSources,
        holder: str,
        spool: Path,
        spool_bytes: int,
        registry: Registry,
        whale_btc: float,
        chats: Chats,
        whale_usd: float | None = None,
        duration: timedelta | None = None,
        relieved: bool = False,
    ) -> None:
        self.champion = Champion(registry, spare_the_collector)
        self._delivery = Delivery(lambda: chats.dispatcher(database_url))
        scoring = LiveScoring(
            lambda: self.champion.model,
            CurrentDetectors(whale_btc, whale_usd),
            chats.ids,
            self._delivery.wake,
        )
        self._prices = PriceKeeper(database_url, sources.price_services)
        clock = MonotoneClock()
        self.worker = IngestWorker(
            database_url,
            sources.open(clock),
            holder,
            spool,
            clock,
            duration,
            relieved,
            hook=scoring,
            spool_bytes=spool_bytes,
        )

    async def run(self, stop: asyncio.Event) -> Shift:
        """Work until `stop` is set, the shift is over, or another worker has taken the lease."""
        self.champion.start()
        self._prices.start()
        self._delivery.start()
        try:
            return await self.worker.run(stop)
        finally:
            self.champion.stop()
            self._prices.stop()
            await asyncio.to_thread(self._delivery.stop, STOP_SECONDS)


def spare_the_collector() -> None:
    """Leave what is there by now, MLflow and the model above all, out of every later collection of cyclic garbage.

    A flood makes the collector run all the time, and a third of all work would be to walk a million objects that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def live_lane(settings: Settings, holder: str, *, relieved: bool = False) -> LiveLane:
    """The live lane of these settings, without an end of its shift. Raises MissingSettingError without a database."""
    database_url = settings.require_database_url()
    return LiveLane(
        database_url=database_url,
        sources=ChosenSources.of(settings),
        holder=holder,
        spool=settings.spool,
        spool_bytes=settings.spool_mb << 20,
        registry=ModelRegistry.of(settings.home, database_url, settings.mlflow_tracking_uri),
        whale_btc=settings.whale_btc,
        whale_usd=settings.whale_usd,
        chats=Chats.of(settings),
        relieved=relieved,
    )
