"""A source of unconfirmed transactions: what it tells, and how it is followed through its outages.

A source is opened, tells events until its connection ends, and is opened again. A MempoolSource tells by `resync` what
was missed meanwhile; what another has missed comes back with blocks only. Whatever a source tells again
changes nothing: transactions are landed once by txid.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from txwatch.clock import Clock
from txwatch.foreign import one_line
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

STABLE_SECONDS = 5.0
"""Seconds; delays start anew after a connection that lasted longer."""

Delays = Callable[[], Generator[float]]
Known = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Gives those of these txids that are stored."""


class SourceAwayError(Exception):
    """A source that cannot be reached, or whose connection has ended; the message says why, in a line of its words."""

    def __init__(self, why: str) -> None:
        super().__init__(one_line(why))


class Connected(msgspec.Struct, frozen=True):
    """The source was subscribed to. What is heard from the next message on is complete."""

    at: datetime


class Disconnected(msgspec.Struct, frozen=True):
    """The connection ended. Whatever was sent between `heard_until`, the last receipt, and the next one is missed."""

    heard_until: datetime
    cause: str


class Missed(msgspec.Struct, frozen=True):
    """Messages since `heard_until` were lost, though the connection goes on: a counter had a hole."""

    heard_until: datetime
    cause: str


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A transaction entered the mempool. `bytes` is the size of the message."""

    transaction: Transaction
    bytes: int = 0


class Removed(msgspec.Struct, frozen=True, gc=False):
    """A transaction left the source's mempool and no block took it: replaced by another, or simply gone."""

    txid: str
    at: datetime
    replaced_by: str | None = None


class BlockFound(msgspec.Struct, frozen=True):
    """A block became the tip of the source's chain."""

    block: WireBlock


class BlockRemoved(msgspec.Struct, frozen=True):
    """A block left the source's chain: another branch has more work."""

    hash: str


class Malformed(msgspec.Struct, frozen=True):
    """A message that could not be read, with the reason."""

    seen_at: datetime
    reason: str
    body: bytes


class Ignored(msgspec.Struct, frozen=True):
    """A message that is of no use here, such as the answer to a ping."""

    bytes: int = 0


class Resynced(msgspec.Struct, frozen=True):
    """All that the source's mempool held at `at` was told, but for `left` transactions, which come back with blocks.

    `tip` is the hash of its highest block then.
    """

    at: datetime
    tip: str
    left: int = 0


Told = Seen | Removed | BlockFound | BlockRemoved | Malformed | Ignored
"""What a source tells while it is connected."""
Event = Told | Connected | Disconnected | Missed | Resynced


@dataclass(frozen=True)
class Health:
    """What a source says of itself, without what changes.

    It relays from `min_fee_rate`, in sat/vB, on, and at most `data_carrier_bytes` of OP_RETURN. `network` is main, or
    Bitcoin Core's name of another one.
    """

    text: str
    min_fee_rate: float = 1.0
    data_carrier_bytes: int = 83
    network: str = "main"


class Source(ABC):
    """A source. `name` tells it from others: `bitcoin-core-2` is a second node. `clock` stamps what it tells."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.heard_until = clock()
        """The moment of the last receipt."""

    @abstractmethod
    async def open(self) -> None:
        """Connect and subscribe. Raises SourceAwayError."""

    @abstractmethod
    def events(self) -> AsyncGenerator[Told | Missed]:
        """What it tells until the connection ends. Raises SourceAwayError then."""

    @abstractmethod
    async def close(self) -> None:
        """Give up the connection, if there is one."""

    @abstractmethod
    async def health(self) -> Health:
        """What it says of itself; needs no open connection. Raises SourceAwayError."""


class MempoolSource(Source):
    """A source whose mempool can be asked for what was missed."""

    @abstractmethod
    def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        """What entered its mempool since a moment and is not `known`, then Resynced. Raises SourceAwayError."""


T = TypeVar("T")


async def follow(
    source: Source, delays: Delays, told: Callable[[], AsyncGenerator[T]] | None = None
) -> AsyncGenerator[T | Told | Missed | Connected | Disconnected]:
    """Follow a source for ever; retry whatever it does. `told` gives what it tells in another form than its events."""
    loop = asyncio.get_running_loop()
    pauses = delays()
    while True:
        opened_at: float | None = None
        try:
            await source.open()
            opened_at = loop.time()
            source.heard_until = source.clock()
            yield Connected(source.heard_until)
            async with aclosing((told or source.events)()) as events:
                async for event in events:
                    yield event
            cause = "the source ended"
        except SourceAwayError as error:
            cause = str(error)
        except Exception as error:
            # What nobody thought of in one source's answers must not end the others.
            log.exception("source_failed", source=source.name)
            cause = one_line(f"{type(error).__name__}: {error}")
        finally:
            await source.close()
        log.warning("feed_disconnected" if opened_at else "feed_not_reached", source=source.name, cause=cause)
        if opened_at is not None:
            yield Disconnected(source.heard_until, cause)
            if loop.time() - opened_at > STABLE_SECONDS:
                pauses = delays()
        await asyncio.sleep(next(pauses))


def reconnect_delays() -> Generator[float]:
    """Seconds before each attempt to connect: from 0.2 doubling to 30, jittered by half."""
    delay = 0.2
    while True:
        yield delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, no secret
        delay = min(delay * 2, 30.0)
