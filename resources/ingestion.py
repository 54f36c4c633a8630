"""The feed, and the worker that follows it."""

from datetime import timedelta

import dagster as dg

from resources.database import DatabaseResource
from txwatch.ingest.worker import IngestWorker


class IngestionResource(dg.ConfigurableResource):
    """Makes ingest workers for shifts of a bounded length."""

    database: dg.ResourceDependency[DatabaseResource]
    stream_url: str
    shift_minutes: float = 60

    def worker(self, holder: str) -> IngestWorker:
        """A worker for one shift. `holder` is the name that the lease shows."""
        return IngestWorker(self.database.url, self.stream_url, holder, timedelta(minutes=self.shift_minutes))
