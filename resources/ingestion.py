"""The feed, the live lane that follows it, and the REST API of blocks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field

from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from txwatch.ingest.node_blocks import NodeElseRest, node_blocks
from txwatch.ingest.recovery import Blocks
from txwatch.ingest.rest import INTERVAL_SECONDS, block_source
from txwatch.ingest.spool import MAX_BYTES
from txwatch.live.lane import LiveLane
from txwatch.sources.chosen import ChosenSources, parts


class IngestionResource(dg.ConfigurableResource):
    """Live lanes for shifts of a bounded length, and the REST API."""

    database: dg.ResourceDependency[DatabaseResource]
    model_registry: dg.ResourceDependency[ModelRegistryResource]
    telegram: dg.ResourceDependency[TelegramResource]
    sources: list[str]
    stream_url: str
    rest_url: str
    spool: str
    whale_btc: float
    whale_usd: float | None = None
    bitcoin_rpc_url: str = Field("", repr=False, description="RPC of one or several nodes, separated by commas.")
    bitcoin_zmq_url: str = ""
    mempool_space_url: str = ""
    spool_bytes: int = MAX_BYTES
    rest_interval_seconds: float = INTERVAL_SECONDS
    shift_minutes: float = 60

    def lane(self, holder: str) -> LiveLane:
        """The live lane of one shift. `holder` is the name that the lease shows."""
        return LiveLane(
            database_url=self.database.url,
            sources=self.chosen,
            holder=holder,
            spool=Path(self.spool),
            spool_bytes=self.spool_bytes,
            registry=self.model_registry.open(),
            whale_btc=self.whale_btc,
            whale_usd=self.whale_usd,
            chats=self.telegram.where,
            duration=timedelta(minutes=self.shift_minutes),
        )

    @property
    def chosen(self) -> ChosenSources:
        """The sources that are followed."""
        return ChosenSources(
            tuple(self.sources),
            self.stream_url,
            parts(self.bitcoin_rpc_url),
            parts(self.bitcoin_zmq_url),
            self.mempool_space_url,
            self.rest_url,
        )

    @contextmanager
    def blocks(self) -> Iterator[Blocks]:
        """Blocks from the first node that is followed, and over REST, at most one request in each interval.

        While nodes alone are followed, no service is asked.
        """
        chosen = self.chosen
        with ExitStack() as stack:
            node = None if chosen.node_url is None else stack.enter_context(node_blocks(chosen.node_url))
            rest = stack.enter_context(block_source(self.rest_url, self.rest_interval_seconds))
            if node is None:
                yield rest
            else:
                yield node if chosen.are_nodes_alone else NodeElseRest(node, rest)
