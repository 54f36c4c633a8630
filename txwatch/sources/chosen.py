"""Which sources are followed, by the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from txwatch.clock import Clock
from txwatch.errors import UserError
from txwatch.settings import MissingSettingError, Settings
from txwatch.sources.bitcoin_core import NAME as NODE
from txwatch.sources.bitcoin_core import BitcoinCore
from txwatch.sources.bitcoin_rpc import BitcoinRpc
from txwatch.sources.blockchain_info import BlockchainInfo
from txwatch.sources.mempool_space import MempoolSpace
from txwatch.sources.source import Source
from txwatch.wire.prices import Price, decode_prices, decode_ticker


class UnknownSourceError(UserError):
    """Settings of sources that do not fit together."""


@dataclass(frozen=True)
class PriceService:
    """Where the price of a bitcoin is asked for. `decode` takes the answer and the present moment."""

    url: str
    path: str
    decode: Callable[[bytes, datetime], Price]


@dataclass(frozen=True)
class ChosenSources:
    """The names of sources in the order of the settings, and where each is reached; a node's address is a secret."""

    names: tuple[str, ...]
    stream_url: str
    rpc_urls: tuple[str, ...] = field(default=(), repr=False)
    zmq_urls: tuple[str, ...] = ()
    mempool_space_url: str = ""
    rest_url: str = ""

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
            settings.rest_url,
        )

    def open(self, clock: Clock) -> Sequence[Source]:
        """The sources, which stamp what they tell by this clock.

        Raises UnknownSourceError, MissingSettingError, or RpcUrlError.
        """
        return [source for name in self.names for source in self._sources(name, clock)]

    def _sources(self, name: str, clock: Clock) -> Sequence[Source]:
        if name == "blockchain.info":
            return [BlockchainInfo(self.stream_url, clock)]
        if name == "mempool.space":
            return [MempoolSpace(self.mempool_space_url, clock)]
        if name == NODE:
            return self._nodes(clock)
        raise UnknownSourceError(f"TXWATCH_SOURCES names {name!r}; there are: {', '.join(KINDS)}")

    def _nodes(self, clock: Clock) -> Sequence[Source]:
        if not self.rpc_urls:
            raise MissingSettingError("TXWATCH_SOURCES names bitcoin-core, and BITCOIN_RPC_URL is not set.")
        if len(self.rpc_urls) != len(self.zmq_urls):
            raise UnknownSourceError(
                f"BITCOIN_RPC_URL names {len(self.rpc_urls)} nodes and BITCOIN_ZMQ_URL {len(self.zmq_urls)}: as many of"
                " each are needed, in one order."
            )
        names = [NODE, *(f"{NODE}-{n}" for n in range(2, len(self.rpc_urls) + 1))]
        nodes = zip(names, self.rpc_urls, self.zmq_urls, strict=True)
        return [BitcoinCore(name, clock, BitcoinRpc(rpc), zmq) for name, rpc, zmq in nodes]

    @property
    def node_url(self) -> str | None:
        """The RPC of the first node that is followed, None without one."""
        return self.rpc_urls[0] if NODE in self.names and self.rpc_urls else None

    @property
    def price_services(self) -> tuple[PriceService, ...]:
        """Who is asked for the price, in this order: whoever is followed, and nobody else. A node knows no price."""
        services = {
            "blockchain.info": PriceService(self.rest_url, "/ticker", decode_ticker),
            "mempool.space": PriceService(self.mempool_space_url, "/api/v1/prices", decode_prices),
        }
        return tuple(services[name] for name in self.names if name in services and services[name].url)

    @property
    def are_nodes_alone(self) -> bool:
        """Whether nothing but nodes is followed."""
        return set(self.names) == {NODE}


def parts(text: str) -> tuple[str, ...]:
    """What is between commas, each once."""
    return tuple(dict.fromkeys(stripped for part in text.split(",") if (stripped := part.strip())))


KINDS = ("blockchain.info", "bitcoin-core", "mempool.space")
