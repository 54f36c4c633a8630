"""mempool.space, or a server of one's own like it: a WebSocket that tells each change of its mempool, and REST.

Changes come every two seconds and are numbered, so that a lost one is noticed. What was missed is asked for one by one,
as far as that takes minutes; the rest comes back with blocks.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
import structlog
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from txwatch.clock import Clock
from txwatch.foreign import one_line
from txwatch.sources.mempool_space_rest import CONCURRENT, MempoolSpaceRest, RefusedError
from txwatch.sources.source import (
    BlockFound,
    Health,
    Ignored,
    Known,
    Malformed,
    MempoolSource,
    Missed,
    Removed,
    Resynced,
    Seen,
    SourceAwayError,
    Told,
)
from txwatch.sources.websocket import SILENCE_SECONDS, WatchedSocket
from txwatch.wire.mempool_space import (
    DECODING_ERRORS,
    PING,
    SUBSCRIBE_BLOCKS,
    SUBSCRIBE_MEMPOOL,
    decode_block,
    decode_changes,
    decode_message,
    decode_transaction,
)
from txwatch.wire.messages import MalformedMessageError

log = structlog.get_logger(__name__)

NAME = "mempool.space"
MOST_ASKED = 5_000
"""Transactions that one resync asks for, the newest of those that are missing: of a quarter of an hour, at ordinary
rates. The public service's pace allows them in eight minutes, and its whole mempool of 100,000 in three hours.
"""
PUBLIC_RATE = 10.0
"""Requests a second to the public service, which says no limit and answers 429 above one. One's own has none."""
_AHEAD = timedelta(seconds=10)
"""What the REST API lists may be announced so much later: some polls of two seconds."""
_SHORTEST_CHANGES_BYTES = 60
"""Bytes; changes of nothing take more, and show that the service goes on. The answer to a ping takes less."""
_REFUSALS_BORNE = 10
"""Transactions that the service may fail to give in one resync, before it counts as away."""


class _Recommended(msgspec.Struct):
    minimum: float = msgspec.field(name="minimumFee")


class _Backend(msgspec.Struct):
    version: str


class _Snapshot(NamedTuple):
    """What the mempool held at a moment, as keys of txids: a set of numbers takes half as much as one of texts."""

    at: datetime
    keys: frozenset[int]


def _key(txid: str) -> int:
    """64 bits of a txid."""
    return int(txid[-16:], 16)


class MempoolSpace(MempoolSource):
    """The server at `url`, http(s); `rate` bounds its requests a second, by host if it is None. Raises InvalidURI."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str = NAME,
        silence_seconds: float = SILENCE_SECONDS,
        rate: float | None = None,
    ) -> None:
        super().__init__(name, clock)
        self._socket_url = socket_url(url)
        self._rest = MempoolSpaceRest(url.rstrip("/"), rate or public_rate(url), clock)
        self._silence_seconds = silence_seconds
        self._socket: WatchedSocket | None = None
        self._sequence: int | None = None
        self._snapshot: _Snapshot | None = None

    async def open(self) -> None:
        if self._snapshot is None:
            # So that a later hole asks for nothing that was there before.
            with suppress(SourceAwayError, MalformedMessageError):
                txids = await self._rest.txids()
                self._snapshot = _Snapshot(self.clock(), frozenset(map(_key, txids)))
        self._sequence = None
        subscriptions = (SUBSCRIBE_BLOCKS, SUBSCRIBE_MEMPOOL)
        self._socket = await WatchedSocket.open(
            self._socket_url, subscriptions, PING, self._silence_seconds, _SHORTEST_CHANGES_BYTES
        )

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def events(self) -> AsyncGenerator[Told | Missed]:
        if self._socket is None:
            raise SourceAwayError("not connected")
        async for body in self._socket.messages():
            at = self.clock()
            told: Sequence[Told | Missed] = ()
            try:
                message = decode_message(body)
            except MalformedMessageError as error:
                yield Malformed(at, str(error), body)
                continue
            if message.block is not msgspec.UNSET:
                yield _block_told(message.block, at)
            if message.changes is not msgspec.UNSET:
                told = self._changes_told(message.changes, at)
                for event in told:
                    yield event
            if message.block is msgspec.UNSET and not told:
                yield Ignored(len(body))

    def _changes_told(self, body: msgspec.Raw, at: datetime) -> list[Told | Missed]:
        try:
            changes = decode_changes(body)
        except MalformedMessageError as error:
            return [Malformed(at, str(error), bytes(body))]
        told: list[Told | Missed] = []
        if self._sequence is not None and changes.sequence != self._sequence + 1:
            cause = f"after change {self._sequence} of its mempool came {changes.sequence}"
            told.append(Missed(self.heard_until, cause))
        self._sequence, self.heard_until = changes.sequence, at
        told += [_transaction_told(added, at) for added in changes.added]
        try:
            for txid, replaced_by in changes.removals():
                told.append(Removed(txid, at, replaced_by))
        except MalformedMessageError as error:
            told.append(Malformed(at, str(error), bytes(body)))
        return told

    async def resync(self, since: datetime, known: Known) -> AsyncGenerator[Told | Resynced]:
        at = self.clock()
        try:
            # In this order: what a block takes between the two answers is in a block up to that tip.
            txids = await self._rest.txids()
            tip = await self._rest.tip()
        except MalformedMessageError as error:
            raise SourceAwayError(str(error)) from error
        before: frozenset[int] = frozenset()
        if self._snapshot is not None and self._snapshot.at + _AHEAD <= since:
            before = self._snapshot.keys
        candidates = [txid for txid in txids if _key(txid) not in before]
        stored = await known(candidates)
        missing = [txid for txid in candidates if txid not in stored]
        # Servers list the newest last.
        asked, left = missing[-MOST_ASKED:], max(0, len(missing) - MOST_ASKED)
        log.info("source_resyncing", source=self.name, mempool=len(txids), asked=len(asked), left_to_blocks=left)
        refusals = 0
        for start in range(0, len(asked), 10 * CONCURRENT):
            for answer in await self._rest.transactions(asked[start : start + 10 * CONCURRENT]):
                if isinstance(answer, RefusedError):
                    refusals += 1
                    if refusals > _REFUSALS_BORNE:
                        raise answer
                    continue
                if (event := self._missed_told(answer, since)) is not None:
                    yield event
        for block in await self._rest.blocks(tip, since):
            yield BlockFound(block.announcement)
        self._snapshot = _Snapshot(at, frozenset(map(_key, txids)))
        yield Resynced(at, tip, left + refusals)

    def _missed_told(self, answer: bytes, since: datetime) -> Told | None:
        """What was missed; None for what entered the mempool before. Its time of entry is in whole seconds."""
        now = self.clock()
        event = _transaction_told(answer, now)
        entered = event.transaction.feed_time if isinstance(event, Seen) else None
        if entered is None or not isinstance(event, Seen):
            return event
        if entered < since.replace(microsecond=0):
            return None
        seen_at = min(max(entered, since), now)
        return Seen(msgspec.structs.replace(event.transaction, seen_at=seen_at), event.bytes)

    async def health(self) -> Health:
        try:
            backend = msgspec.json.decode(await self._rest.get("/api/v1/backend-info"), type=_Backend)
            text = one_line(f"version {backend.version}")
        except (SourceAwayError, *DECODING_ERRORS):
            try:
                await self._rest.tip()
            except MalformedMessageError as error:
                raise SourceAwayError(f"its tip: {error}") from error
            text = "answers"
        with suppress(SourceAwayError, *DECODING_ERRORS):
            body = await self._rest.get("/api/v1/fees/recommended")
            if (least := msgspec.json.decode(body, type=_Recommended).minimum) > 0:
                return Health(text, least)
        return Health(text)


def _transaction_told(body: bytes | msgspec.Raw, at: datetime) -> Seen | Malformed:
    try:
        return Seen(decode_transaction(body, at), len(bytes(body)))
    except MalformedMessageError as error:
        return Malformed(at, str(error), bytes(body))


def _block_told(body: msgspec.Raw, at: datetime) -> BlockFound | Malformed:
    try:
        return BlockFound(decode_block(body).announcement)
    except MalformedMessageError as error:
        return Malformed(at, str(error), bytes(body))


def socket_url(url: str) -> str:
    """The WebSocket of a server: `https://mempool.space` has `wss://mempool.space/api/v1/ws`. Raises InvalidURI."""
    scheme, separator, rest = url.rstrip("/").partition("://")
    if separator and scheme in {"http", "https"}:
        found = f"{scheme.replace('http', 'ws')}://{rest}/api/v1/ws"
        parse_uri(found)
        return found
    raise InvalidURI(url, "mempool.space is reached by http:// or https://")


def public_rate(url: str) -> float | None:
    """Requests a second to this server, None without a bound."""
    host = urlsplit(url).hostname or ""
    return PUBLIC_RATE if host == "mempool.space" or host.endswith(".mempool.space") else None
