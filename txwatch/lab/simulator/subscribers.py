"""The clients of the local feed: their subscriptions in either protocol, and sending, with a limit on what waits."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
import structlog
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

MAX_UNSENT_BYTES = 32 * 1024 * 1024
"""Bytes that may wait for one client: eight of the largest messages, or most of an hour of ordinary traffic."""
MAX_ADDRESSES = 10_000
"""Addresses that one client may follow."""


class Protocol(StrEnum):
    """What a client speaks; the name of the source that does."""

    BLOCKCHAIN_INFO = "blockchain.info"
    MEMPOOL_SPACE = "mempool.space"


class _Operation(msgspec.Struct):
    op: str
    addr: str | None = None


_operation = msgspec.json.Decoder(_Operation)


class _Action(msgspec.Struct):
    action: str | None = None
    data: list[str] = []
    track_mempool: bool | None = msgspec.field(name="track-mempool", default=None)


_action = msgspec.json.Decoder(_Action)
MEMPOOL_SPACE_PATH = "/api/v1/ws"


class Subscriber:
    """A client that speaks the protocol of blockchain.info."""

    protocol: ClassVar[Protocol] = Protocol.BLOCKCHAIN_INFO

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.transactions = False
        self.blocks = False
        self.addresses: set[str] = set()

    def obey(self, body: str | bytes) -> bytes | None:
        """Carry out a client's message. Returns the answer, if there is one; a bad message has no other effect."""
        try:
            operation = _operation.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return _status(f"not understood: {error}")
        address = operation.addr or ""
        match operation.op:
            case "unconfirmed_sub" | "unconfirmed_unsub":
                self.transactions = operation.op == "unconfirmed_sub"
            case "blocks_sub" | "blocks_unsub":
                self.blocks = operation.op == "blocks_sub"
            case "addr_sub" | "addr_unsub" if not address:
                return _status(f"{operation.op} needs an addr")
            case "addr_unsub":
                self.addresses.discard(address)
            case "addr_sub" if len(self.addresses) < MAX_ADDRESSES:
                self.addresses.add(address)
            case "addr_sub":
                return _status(f"no more than {MAX_ADDRESSES} addresses")
            case "ping":
                return b'{"op":"pong"}'
            case _:
                return _status(f"unknown operation {operation.op!r}")
        return None


class MempoolSpaceSubscriber(Subscriber):
    """A client that speaks the protocol of mempool.space. `transactions` is whether it tracks the mempool."""

    protocol = Protocol.MEMPOOL_SPACE

    def obey(self, body: str | bytes) -> bytes | None:
        try:
            asked = _action.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None  # the real server closes its ears to it
        if asked.track_mempool is not None:
            self.transactions = asked.track_mempool
        if asked.action == "want":
            self.blocks = "blocks" in asked.data
        return b'{"pong":true}' if asked.action == "ping" else None


class Subscribers:
    """All clients. Sending never waits: a client with more than `max_unsent_bytes` unsent is closed (code 1008)."""

    def __init__(self, max_unsent_bytes: int = MAX_UNSENT_BYTES) -> None:
        self._max_unsent_bytes = max_unsent_bytes
        self._all: set[Subscriber] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.awaited = asyncio.Event()
        """Set once a client has asked for transactions."""

    async def attend(self, connection: ServerConnection) -> None:
        """Serve one client until its connection ends."""
        path = urlsplit(connection.request.path).path if connection.request else ""
        subscriber = (MempoolSpaceSubscriber if path == MEMPOOL_SPACE_PATH else Subscriber)(connection)
        self._all.add(subscriber)
        try:
            async for body in connection:
                answer = subscriber.obey(body)
                if subscriber.transactions or subscriber.addresses:
                    self.awaited.set()
                if answer is not None:
                    await connection.send(answer, text=True)
        except ConnectionClosed:
            pass
        finally:
            self._all.discard(subscriber)

    def send_transaction(self, message: bytes, transaction: Transaction | None) -> None:
        """Send to subscribers of transactions or of an address of this one; None: the message is malformed."""
        followed = transaction is not None and any(s.addresses for s in self._all)
        touched = transaction.addresses if transaction is not None and followed else set()
        self._send(message, Protocol.BLOCKCHAIN_INFO, lambda s: s.transactions or not s.addresses.isdisjoint(touched))

    def send_block(self, message: bytes) -> None:
        self._send(message, Protocol.BLOCKCHAIN_INFO, lambda s: s.blocks)

    @property
    def any_tracks_mempool(self) -> bool:
        """Whether a client wants to hear of changes of the mempool."""
        return any(s.protocol == Protocol.MEMPOOL_SPACE and (s.transactions or s.blocks) for s in self._all)

    def send_changes(self, changes: bytes, block: bytes | None = None) -> None:
        """Send changes of the mempool, with the block that they are from, each to who wants it, in one message."""
        parts = {(True, False): b'{"mempool-transactions":%b}' % changes}
        if block is not None:
            parts[False, True] = b'{"block":%b}' % block
            parts[True, True] = b'{"block":%b,"mempool-transactions":%b}' % (block, changes)
        for wanted, message in parts.items():
            # Who wants blocks too gets the changes alone when there is none.
            self._send(
                message,
                Protocol.MEMPOOL_SPACE,
                lambda s, wanted=wanted: (s.transactions, s.blocks and block is not None) == wanted,  # type: ignore[misc]
            )

    def _send(self, message: bytes, protocol: Protocol, wants: Callable[[Subscriber], bool]) -> None:
        receivers = {subscriber for subscriber in self._all if subscriber.protocol == protocol and wants(subscriber)}
        slow = {s for s in receivers if s.connection.transport.get_write_buffer_size() > self._max_unsent_bytes}
        for subscriber in slow:
            connection = subscriber.connection
            log.warning("slow_client_closed", client=connection.remote_address)
            self._all.discard(subscriber)
            closing = asyncio.create_task(connection.close(CloseCode.POLICY_VIOLATION, "client reads too slowly"))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        broadcast([subscriber.connection for subscriber in receivers - slow], message, text=True)


def _status(message: str) -> bytes:
    return msgspec.json.encode({"op": "status", "msg": message})
