"""Which sources are followed, by the settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from txwatch.clock import Clock
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.sources.blockchain_info import BlockchainInfo
from txwatch.sources.mempool_space import MempoolSpace
from txwatch.sources.source import Source


class UnknownSourceError(UserError):
    """A name in TXWATCH_SOURCES that no source has."""


@dataclass(frozen=True)
class ChosenSources:
    """The names of sources in the order of the settings, and where each is reached; a node's address is a secret."""

    names: tuple[str, ...]
    stream_url: str
    rpc_urls: tuple[str, ...] = field(default=(), repr=False)
    zmq_urls: tuple[str, ...] = ()
    mempool_space_url: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "ChosenSources":
        """Those of these settings."""
        rpc = settings.bitcoin_rpc_url
        return cls(
            parts(settings.sources),
            settings.stream_url,
            parts(rpc.get_secret_value() if rpc else ""),
            parts(settings.bitcoin_zmq_url),
            settings.mempool_space_url,
        )

    def open(self, clock: Clock) -> Sequence[Source]:
        """The sources, which stamp what they tell by this clock. Raises UnknownSourceError."""
        return [self._source(name, clock) for name in self.names]

    def _source(self, name: str, clock: Clock) -> Source:
        if name == "blockchain.info":
            return BlockchainInfo(self.stream_url, clock)
        if name == "mempool.space":
            return MempoolSpace(self.mempool_space_url, clock)
        raise UnknownSourceError(f"TXWATCH_SOURCES names {name!r}; there are: {', '.join(KINDS)}")


def parts(text: str) -> tuple[str, ...]:
    """What is between commas, each once."""
    return tuple(dict.fromkeys(stripped for part in text.split(",") if (stripped := part.strip())))


KINDS = ("blockchain.info", "bitcoin-core", "mempool.space")
