"""The feed, the worker that follows it, and the API that gives the blocks to recover from."""

from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import dagster as dg

from resources.database import DatabaseResource
from txwatch.ingest.rest import INTERVAL_SECONDS, BlockSource, block_source
from txwatch.ingest.spool import MAX_BYTES
from txwatch.ingest.worker import IngestWorker


class IngestionResource(dg.ConfigurableResource):
    """Makes ingest workers for shifts of a bounded length, and opens the REST API."""

    database: dg.ResourceDependency[DatabaseResource]
    stream_url: str
    rest_url: str
    spool: str
    spool_bytes: int = MAX_BYTES
    rest_interval_seconds: float = INTERVAL_SECONDS
    shift_minutes: float = 60

    def worker(self, holder: str) -> IngestWorker:
        """A worker for one shift. `holder` is the name that the lease shows."""
        return IngestWorker(
            self.database.url,
            self.stream_url,
            holder,
            Path(self.spool),
            timedelta(minutes=self.shift_minutes),
            spool_bytes=self.spool_bytes,
        )

    def blocks(self) -> AbstractContextManager[BlockSource]:
        """Blocks over REST, paced."""
        return block_source(self.rest_url, self.rest_interval_seconds)
