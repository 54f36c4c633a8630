"""The live lane as a whole: the ingest worker with scoring and delivery at its side, for the length of a shift."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

from txwatch.alerts.chats import Chats
from txwatch.detection.detectors import CurrentDetectors
from txwatch.detection.registry import ModelRegistry
from txwatch.ingest.worker import IngestWorker, Shift
from txwatch.live.champion import Champion, Registry
from txwatch.live.delivery import Delivery
from txwatch.live.scoring import LiveScoring
from txwatch.settings import Settings

STOP_SECONDS = 5.0


class LiveLane:
    """One shift of it. Landing begins at once; the champion is loaded beside it, and scores from then on."""

    def __init__(
        self,
        *,
        database_url: str,
        stream_url: str,
        holder: str,
        spool: Path,
        spool_bytes: int,
        registry: Registry,
        whale_btc: float,
        chats: Chats,
        duration: timedelta | None = None,
        relieved: bool = False,
    ) -> None:
        self.champion = Champion(registry)
        self._delivery = Delivery(lambda: chats.dispatcher(database_url)) if chats.ids else None
        scoring = LiveScoring(
            lambda: self.champion.model,
            CurrentDetectors(whale_btc),
            chats.ids,
            self._delivery.wake if self._delivery else lambda: None,
        )
        self.worker = IngestWorker(
            database_url, stream_url, holder, spool, duration, relieved, landed=scoring, spool_bytes=spool_bytes
        )

    async def run(self, stop: asyncio.Event) -> Shift:
        """Work until `stop` is set, the shift is over, or another worker has taken the lease."""
        self.champion.start()
        if self._delivery is not None:
            self._delivery.start()
        try:
            return await self.worker.run(stop)
        finally:
            self.champion.stop()
            if self._delivery is not None:
                await asyncio.to_thread(self._delivery.stop, STOP_SECONDS)


def live_lane(settings: Settings, holder: str, *, relieved: bool = False) -> LiveLane:
    """The live lane that the settings describe, without an end, or `relieved` until another worker takes over.

    Raises MissingSettingError without a database.
    """
    database_url = settings.require_database_url()
    return LiveLane(
        database_url=database_url,
        stream_url=settings.stream_url,
        holder=holder,
        spool=settings.spool,
        spool_bytes=settings.spool_mb << 20,
        registry=ModelRegistry.of(settings.home, database_url, settings.mlflow_tracking_uri),
        whale_btc=settings.whale_btc,
        chats=Chats.of(settings),
        relieved=relieved,
    )


def run_until_signalled(lane: LiveLane) -> Shift:
    """Run in this thread's own loop until SIGINT or SIGTERM, which end the lane after a last flush."""

    async def work() -> Shift:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await lane.run(stop)

    return asyncio.run(work())
