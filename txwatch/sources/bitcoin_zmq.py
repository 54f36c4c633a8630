"""A Bitcoin node's ZMQ notifications: subscribed to, read many at a time, and each topic's counter checked."""

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from txwatch.clock import Clock
from txwatch.sources.source import SourceAwayError

if TYPE_CHECKING:
    import zmq
    import zmq.asyncio

TOPICS = (b"rawtx", b"sequence")
CONNECT_SECONDS = 5.0
_SETTLE_SECONDS = 0.1
"""Seconds that the node is given to hear of the subscriptions: it notes them beside the messages that it sends."""
_SLICE_SECONDS = 0.25
"""Seconds between two looks at whether the connection ended."""
MOST_MESSAGES = 2_000
"""Messages that are read at once: what comes meanwhile waits in the socket."""
_WAITING_MESSAGES = 50_000
"""Messages that wait in the socket at most, above which it loses the newest: a full block brings 12,000."""
_MAX_FRAME_BYTES = 8 << 20
MAX_WAITING_BYTES = 256 << 20
"""Bytes that came and were not read yet, above which the connection is given up: a message has frames without bound."""
_TCP_INFO_BYTES = 136
"""Of Linux' `struct tcp_info`, whose last 8 are `tcpi_bytes_received`."""
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 10_000, 30_000
"""Of the ZMQ protocol: they end a connection whose other end is gone without a word."""


class Notice(NamedTuple):
    """One message: its topic, and its body."""

    topic: bytes
    body: bytes


class Hole(NamedTuple):
    """Messages of a topic were lost, after one that was sent at `since` or later."""

    since: datetime
    cause: str


class Subscription:
    """A connection to the node's `rawtx` and `sequence` at one address.

    `empty_at` is the last moment at which no message waited: what was read since was sent after it.
    """

    def __init__(self, url: str, context: "zmq.Context[zmq.Socket[bytes]]", clock: Clock) -> None:
        import zmq
        import zmq.asyncio

        self._url = url
        self._context = context
        self._socket = context.socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, _WAITING_MESSAGES)
        self._socket.set(zmq.MAXMSGSIZE, _MAX_FRAME_BYTES)
        self._socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        self._socket.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        # A connection that is made again has lost messages, and nothing says so but its first counters.
        self._socket.set(zmq.RECONNECT_IVL, -1)
        for topic in TOPICS:
            self._socket.subscribe(topic)
        # The same socket, for waiting only: reading by it would make a future for each message.
        self._waker = zmq.asyncio.Socket.from_socket(self._socket)
        told = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(told)
        self._tcp: socket.socket | None = None
        self._bytes_read = 0
        self._counters: dict[bytes, int] = {}
        self._clock = clock
        self.empty_at = clock()
        self._heard_at = dict.fromkeys(TOPICS, self.empty_at)

    @classmethod
    async def open(cls, url: str, clock: Clock) -> "Subscription":
        """Connect and subscribe. Raises SourceAwayError."""
        import zmq

        subscription = cls(url, zmq.Context(), clock)
        try:
            await subscription._connect()
        except BaseException:
            subscription.close()
            raise
        return subscription

    async def _connect(self) -> None:
        import zmq

        try:
            self._socket.connect(self._url)
        except zmq.ZMQError as error:
            raise SourceAwayError(f"BITCOIN_ZMQ_URL {self._url!r} cannot be connected to: {error}") from None
        until = time.monotonic() + CONNECT_SECONDS
        while self._state() != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if time.monotonic() > until:
                raise SourceAwayError(f"nothing publishes at {self._url}")
            await asyncio.sleep(0.01)
        await asyncio.sleep(_SETTLE_SECONDS)

    def _state(self) -> int | None:
        """What became of the connection since the last look, None if nothing did."""
        import zmq
        from zmq.utils.monitor import recv_monitor_message

        state = None
        while self._monitor.poll(0):
            event: Any = recv_monitor_message(self._monitor)
            state = int(event["event"])
            if state == zmq.EVENT_CONNECTED:
                with suppress(OSError):  # it may have ended
                    self._tcp = socket.socket(fileno=os.dup(event["value"]))
        return state

    async def wait(self, seconds: float) -> bool:
        """Whether a message comes in so many seconds. Raises SourceAwayError if the node ended or sends without end."""
        until = time.monotonic() + seconds
        while True:
            if self._bytes_received() - self._bytes_read > MAX_WAITING_BYTES:
                raise SourceAwayError(f"the node sends more than {MAX_WAITING_BYTES >> 20} MiB that cannot be read")
            left = max(0.0, until - time.monotonic())
            if await self._waker.poll(int(1_000 * min(left, _SLICE_SECONDS))):
                return True
            self._look()
            if self._state() is not None:
                raise SourceAwayError("the node closed the connection")
            if not left:
                return False

    def _bytes_received(self) -> int:
        """Of the connection until now; 0 where nothing counts them: by a Unix socket, and elsewhere than on Linux."""
        if self._tcp is None:
            return 0
        try:
            told = self._tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except (OSError, AttributeError):
            return 0
        return int.from_bytes(told[-8:], sys.byteorder) if len(told) == _TCP_INFO_BYTES else 0

    def _look(self) -> None:
        """Note the moment if no message waits. The event loop may have been busy when one came."""
        now = self._clock()
        if not self._socket.poll(0):
            self.empty_at = now

    def read(self) -> list[Notice | Hole]:
        """The messages that wait, at most MOST_MESSAGES, with a Hole before one that others are missing before."""
        since = self.empty_at
        read: list[Notice | Hole] = []
        for _ in range(MOST_MESSAGES):
            if (parts := self._parts()) is None:
                break
            # A frame has its flags and its length before it.
            self._bytes_read += sum(len(part) + (2 if len(part) < 256 else 9) for part in parts)
            # A topic that only begins as one of ours was subscribed to with it.
            if len(parts) != 3 or parts[0] not in TOPICS or len(parts[2]) != 4:
                continue
            topic, body, counted = parts
            counter = int.from_bytes(counted, "little")
            expected = self._counters.get(topic)
            if expected not in (None, counter):
                lost = (counter - expected) % (1 << 32) if expected is not None else 0
                cause = f"{lost:,} messages of {topic.decode(errors='replace')} were lost"
                read.append(Hole(self._heard_at.get(topic, since), cause))
            self._counters[topic] = (counter + 1) % (1 << 32)
            self._heard_at[topic] = since
            read.append(Notice(topic, body))
        self._look()
        return read

    def _parts(self) -> list[bytes] | None:
        """The next message, None if none waits."""
        import zmq

        # Frames know whether another follows: `recv_multipart` asks the socket for it, which takes twice as long.
        try:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            parts = [frame.bytes]
            while frame.more:
                # Its other frames are there already, unless the connection ended just now: they are dropped with it.
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
                parts.append(frame.bytes)
        except zmq.Again:
            return None
        return parts

    def close(self) -> None:
        """Give up the connection."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._waker.close()
        if self._tcp is not None:
            self._tcp.close()
        self._socket.close(linger=0)
        self._context.term()
