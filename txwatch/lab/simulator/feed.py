"""The local feed: a WebSocket and HTTP server on loopback with the protocols of blockchain.info and mempool.space."""

import asyncio
import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from math import ceil, inf
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from txwatch.captures import CapturedMessage, CaptureError, existing_capture, read_capture
from txwatch.clock import Clock, utc_now
from txwatch.errors import UserError
from txwatch.lab.simulator.chain import Block, Chain, read_transaction
from txwatch.lab.simulator.mempool_space import POLL_SECONDS, Change, Losses, Polls, block_answer, rest_answer
from txwatch.lab.simulator.plants import PEELED_SHARE, REPLACED_SHARE
from txwatch.lab.simulator.prices import ticker_answer
from txwatch.lab.simulator.regimes import regime_named
from txwatch.lab.simulator.subscribers import MAX_UNSENT_BYTES, MEMPOOL_SPACE_PATH, Protocol, Subscribers
from txwatch.lab.simulator.traffic import Simulator
from txwatch.places import Place
from txwatch.waiting import run_until_signalled, wait_for_first

FIRST_WHALE_WITHIN_SECONDS = 6.0
"""So that a demo soon shows what it is about."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Played(NamedTuple):
    """A message, when it was due (UTC), its known labels, the txid that it `replaces`, and `makers` as of Served."""

    at: datetime
    message: bytes
    labels: tuple[str, ...]
    replaces: str | None = None
    makers: Sequence[str] = ()


class Playlist:
    """The messages of a capture, if there is one, then simulated ones without end.

    `rate` (transactions a second; the regime's own by default) is the capture's, or the simulator's if there is none.
    Raises ValueError for an unknown regime or a rate that is not positive, CaptureError for a missing capture.
    """

    def __init__(
        self,
        *,
        capture: Place | None,
        rate: float | None,
        regime: str,
        seed: int,
        replaced_share: float = REPLACED_SHARE,
        peeled_share: float = PEELED_SHARE,
    ) -> None:
        regimes_rate = regime_named(regime).transactions_per_second
        if rate is not None and not 0 < rate < inf:
            raise ValueError(f"rate is {rate}, it must be a number above 0, in transactions a second")
        self._capture_rate = rate or regimes_rate
        self._simulated_rate = rate if capture is None else None
        self._regime, self._seed = regime, seed
        self._replaced_share, self._peeled_share = replaced_share, peeled_share
        self._captured: Iterator[CapturedMessage] = (
            iter(()) if capture is None else read_capture(existing_capture(capture))
        )
        self._start: datetime | None = None
        self._next: CapturedMessage | None = None
        self._played = 0
        self._simulator: Simulator | None = None

    def begin(self, at: datetime) -> None:
        """Play from this moment on; a second call has no effect. Raises CaptureError for a bad first line."""
        if self._start is None:
            self._start, self._next = at, next(self._captured, None)

    def until(self, now: datetime) -> Iterator[Played]:
        """The messages due before `now` that were not given yet, in order; none before `begin`. Raises CaptureError."""
        if self._start is None:
            return
        while self._next is not None:
            if (at := self._captured_at(self._start)) >= now:
                return
            captured, self._next = self._next, next(self._captured, None)
            self._played += 1
            yield Played(at, restamped(captured.message, now), tuple(captured.labels))
        if self._simulator is None:
            start = self._captured_at(self._start)
            self._simulator = Simulator(
                self._regime,
                seed=self._seed,
                start=start,
                rate=self._simulated_rate,
                replaced_share=self._replaced_share,
                peeled_share=self._peeled_share,
                first_whale_within=FIRST_WHALE_WITHIN_SECONDS,
            )
        for transaction in self._simulator.until(now):
            yield Played(
                transaction.at, transaction.message, transaction.labels, transaction.replaces, transaction.makers
            )

    def _captured_at(self, start: datetime) -> datetime:
        return start + timedelta(seconds=self._played / self._capture_rate)


def restamped(message: bytes, now: datetime) -> bytes:
    """The message with its `time` set to now; unchanged if it is no valid `utx`."""
    if read_transaction(message, now) is None:
        return message
    parts = _object.decode(message)
    body = _object.decode(parts["x"])
    body["time"] = msgspec.Raw(str(int(now.timestamp())).encode())
    parts["x"] = msgspec.Raw(msgspec.json.encode(body))
    return msgspec.json.encode(parts)


class RestApi:
    """Answers GET requests from the chain; with 429, like the real service, within `interval_seconds` of an answer."""

    def __init__(self, chain: Chain, now: Clock, interval_seconds: float = 0.0) -> None:
        self._chain = chain
        self._now = now
        self._interval = timedelta(seconds=interval_seconds)
        self._last: datetime | None = None

    def answer(self, target: str) -> Response:
        """The response to one request target, such as `/blocks/1710374400000?format=json`. Always JSON."""
        now = self._now()
        if self._last is not None and now - self._last < self._interval:
            refusal = _error(HTTPStatus.TOO_MANY_REQUESTS, "too many requests")
            if target.startswith("/api/"):
                refusal.headers["Retry-After"] = str(ceil((self._interval - (now - self._last)).total_seconds()))
            return refusal
        self._last = now
        match urlsplit(target).path.split("/")[1:]:
            case ["blocks", milliseconds]:
                with suppress(ValueError, OverflowError, OSError):
                    return _found("day", msgspec.json.encode(self._chain.on_day(int(milliseconds))))
                return _found("day", None)
            case ["rawblock", block_hash]:
                block = self._chain.block(block_hash)
                return _found("block", None if block is None else block.raw())
            case ["rawtx", txid]:
                served = self._chain.transaction(txid)
                return _found("transaction", None if served is None else served.body)
            case ["ticker"]:
                return _json(HTTPStatus.OK, ticker_answer(now))
            case ["api", *path]:
                return _found("page", rest_answer(self._chain, path, now))
        return _found("page", None)


def _found(what: str, body: bytes | None) -> Response:
    return _error(HTTPStatus.NOT_FOUND, f"no such {what}") if body is None else _json(HTTPStatus.OK, body)


def _error(status: HTTPStatus, message: str) -> Response:
    return _json(status, msgspec.json.encode({"error": status.phrase, "message": message}))


def _json(status: HTTPStatus, body: bytes) -> Response:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers(headers), body)


LOOPBACK = "127.0.0.1"
STREAM_PATH = "/inv"
TICK_SECONDS = 0.01
"""The interval between two looks for what is due."""
CLOSE_SECONDS = 3.0
"""For a client to close its connection or to read a REST answer; a stop takes no longer."""
KEPT_BLOCKS, KEPT_WAITING = 36, 100_000
"""Of `txwatch feed`: six hours of blocks, and a mempool. At 2 kB a transaction, at most half a gigabyte."""
_MESSAGES_AT_ONCE = 16
_MAX_OPERATION_BYTES = 65_536


class LocalFeed:
    """A feed that runs for an `async with` block, and plays from the first subscription to transactions on.

    Messages and blocks are in the order of their times by `clock`. `truth` gets a line of JSON for each labelled
    transaction. With `port` 0 the system chooses one. `poll_seconds` by `clock` are between two looks of mempool.space
    at its mempool. `lost` is the share of a protocol's messages that no client gets, chosen by `seed`. Raises OSError
    if the port or `truth` cannot be opened.
    """

    def __init__(
        self,
        *,
        playlist: Playlist,
        chain: Chain,
        port: int = 0,
        host: str = LOOPBACK,
        clock: Clock = utc_now,
        truth: Path | None = None,
        rest_interval_seconds: float = 0.0,
        max_unsent_bytes: int = MAX_UNSENT_BYTES,
        poll_seconds: float = POLL_SECONDS,
        lost: Mapping[Protocol, float] = MappingProxyType({}),
        seed: int = 0,
    ) -> None:
        self._playlist = playlist
        self._chain = chain
        self._host = host
        self._port = port
        self._clock = clock
        self._truth_path = truth
        self._rest = RestApi(chain, clock, rest_interval_seconds)
        self._subscribers = Subscribers(max_unsent_bytes)
        self._losses = {protocol: Losses(lost.get(protocol, 0.0), f"{seed}/{protocol}") for protocol in Protocol}
        self._poll_seconds = poll_seconds
        self._polls: Polls | None = None
        self._truth: BinaryIO | None = None
        self._open = AsyncExitStack()

    @property
    def stream_url(self) -> str:
        return f"ws://{self._host}:{self._port}{STREAM_PATH}"

    @property
    def rest_url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._truth_path is not None:
                # Unbuffered: a plant is on disk before a client gets it.
                self._truth = stack.enter_context(self._truth_path.open("ab", buffering=0))
            server = await stack.enter_async_context(
                serve_websockets(
                    self._subscribers.attend,
                    self._host,
                    self._port,
                    process_request=self._route,
                    compression=None,  # loopback has room, and deflating 3.9 MB for each client takes time
                    max_size=_MAX_OPERATION_BYTES,
                    close_timeout=CLOSE_SECONDS,
                )
            )
            self._port = next(iter(server.sockets)).getsockname()[1]
            self._playing = asyncio.create_task(self._play(), name="local feed")
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._playing.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self._playing
        finally:
            await self._open.aclose()

    async def play_on(self) -> None:
        """Play until an error, which is raised: CaptureError, or OSError from a file."""
        await asyncio.shield(self._playing)

    def _route(self, _connection: ServerConnection, request: Request) -> Response | None:
        """None lets the WebSocket handshake go on."""
        path = urlsplit(request.path).path
        return None if path in (STREAM_PATH, MEMPOOL_SPACE_PATH) else self._rest.answer(request.path)

    async def _play(self) -> None:
        while not self._subscribers.awaited.is_set():
            self._advance(self._clock())
            with suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes as the wait is over.
                async with asyncio.timeout(TICK_SECONDS):
                    await self._subscribers.awaited.wait()
        began = self._clock()
        self._playlist.begin(began)
        self._polls = Polls(self._chain, began, self._poll_seconds)
        while True:
            now = self._clock()
            for number, played in enumerate(self._playlist.until(now), start=1):
                self._advance(played.at)
                self._send(played)
                if number % _MESSAGES_AT_ONCE == 0:
                    await asyncio.sleep(0)  # let clients read while a backlog is sent
            self._advance(now)
            await asyncio.sleep(TICK_SECONDS)

    def _send(self, played: Played) -> None:
        transaction = self._chain.served(played.message, played.at, played.replaces, played.makers)
        if self._truth is not None and transaction is not None and played.labels:
            line = {"txid": transaction.txid, "labels": played.labels, "at": played.at.isoformat()}
            self._truth.write(msgspec.json.encode(line) + b"\n")
        if not self._losses[Protocol.BLOCKCHAIN_INFO].lose():
            self._subscribers.send_transaction(played.message, transaction)

    def _advance(self, now: datetime) -> None:
        """Mine the blocks and make the polls that are due, in the order of their times."""
        # At their own times, not this tick's, so that the same seed gives the same blocks.
        while True:
            polls = self._polls
            if self._chain.due(now) and (polls is None or self._chain.next_block_at <= polls.next_at):
                self._mine(polls)
            elif polls is not None and polls.next_at <= now:
                self._tell_change(polls.poll())
            else:
                return

    def _mine(self, polls: Polls | None) -> None:
        block = self._chain.mine(self._chain.next_block_at)
        if not self._losses[Protocol.BLOCKCHAIN_INFO].lose():
            self._subscribers.send_block(block.announcement())
        if polls is not None:
            self._tell_change(polls.mined(block), block)

    def _tell_change(self, change: Change, block: Block | None = None) -> None:
        lost = self._losses[Protocol.MEMPOOL_SPACE].lose()
        if self._subscribers.any_tracks_mempool and not lost:
            self._subscribers.send_changes(change.message(), None if block is None else block_answer(block))


class FeedError(UserError):
    """The local feed cannot start, or cannot go on."""


def serve(
    *, host: str, port: int, capture: Place | None, rate: float | None, regime: str, seed: int, truth: Path | None
) -> None:
    """Run a local feed until SIGINT or SIGTERM. Raises FeedError."""
    try:
        playlist = Playlist(capture=capture, rate=rate, regime=regime, seed=seed)
        chain = Chain(seed=seed, start=utc_now(), kept_blocks=KEPT_BLOCKS, kept_waiting=KEPT_WAITING)
    except ValueError as error:
        raise FeedError(str(error)) from error

    async def play(stop: asyncio.Event) -> None:
        async with LocalFeed(playlist=playlist, chain=chain, host=host, port=port, truth=truth) as feed:
            print(f"Serving {feed.stream_url} and {feed.rest_url}. Ctrl-C ends.", flush=True)
            await wait_for_first(stop.wait(), feed.play_on())

    try:
        run_until_signalled(play)
    except CaptureError as error:
        raise FeedError(str(error)) from error
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise FeedError(f"port {port} is in use; choose another with --port" if in_use else str(error)) from error
