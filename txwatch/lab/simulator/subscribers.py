"""The clients of the local feed: their subscriptions, and sending, with a limit on what waits for a slow one."""

import asyncio
from collections.abc import Callable

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


class _Operation(msgspec.Struct):
    op: str
    addr: str | None = None


_operation = msgspec.json.Decoder(_Operation)


class Subscriber:
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
        subscriber = Subscriber(connection)
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
        self._send(message, lambda s: s.transactions or not s.addresses.isdisjoint(touched))

    def send_block(self, message: bytes) -> None:
        self._send(message, lambda s: s.blocks)

    def _send(self, message: bytes, wants: Callable[[Subscriber], bool]) -> None:
        receivers = {subscriber for subscriber in self._all if wants(subscriber)}
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
