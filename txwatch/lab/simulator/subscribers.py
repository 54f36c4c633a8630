"""Who listens to the local feed, and to what: the operations of clients, and the limit on what waits for a slow one.

Belongs here: one client's wishes and the sending. What is sent, and when, is decided in `feed.py`.
"""

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
"""What may wait for one client: eight of the largest messages, or most of an hour of ordinary traffic."""
MAX_ADDRESSES = 10_000
"""Addresses that one client may follow."""


class _Operation(msgspec.Struct):
    op: str
    addr: str | None = None


_operation = msgspec.json.Decoder(_Operation)
_PONG = b'{"op":"pong"}'


class Subscriber:
    """One client and what it wants to hear."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.transactions = False
        self.blocks = False
        self.addresses: set[str] = set()

    @property
    def waits_for_transactions(self) -> bool:
        return self.transactions or bool(self.addresses)

    def obey(self, body: str | bytes) -> bytes | None:
        """Do what a client's message says. Gives the answer, if there is one; a bad message changes nothing else."""
        try:
            operation = _operation.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return _status(f"not understood: {error}")
        match operation.op:
            case "unconfirmed_sub" | "unconfirmed_unsub":
                self.transactions = operation.op == "unconfirmed_sub"
            case "blocks_sub" | "blocks_unsub":
                self.blocks = operation.op == "blocks_sub"
            case "addr_sub" | "addr_unsub":
                return self._follow(operation)
            case "ping":
                return _PONG
            case _:
                return _status(f"unknown operation {operation.op!r}")
        return None

    def _follow(self, operation: _Operation) -> bytes | None:
        if not operation.addr:
            return _status(f"{operation.op} needs an addr")
        if operation.op == "addr_unsub":
            self.addresses.discard(operation.addr)
        elif len(self.addresses) < MAX_ADDRESSES:
            self.addresses.add(operation.addr)
        else:
            return _status(f"no more than {MAX_ADDRESSES} addresses")
        return None


class Subscribers:
    """All clients. Sending never waits: a client for which more than `max_unsent_bytes` wait is closed (code 1008)."""

    def __init__(self, max_unsent_bytes: int = MAX_UNSENT_BYTES) -> None:
        self._max_unsent_bytes = max_unsent_bytes
        self._all: set[Subscriber] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.awaited = asyncio.Event()
        """Set once a client has asked for transactions."""

    async def attend(self, connection: ServerConnection) -> None:
        """Obey one client until its connection ends."""
        subscriber = Subscriber(connection)
        self._all.add(subscriber)
        try:
            async for body in connection:
                answer = subscriber.obey(body)
                if subscriber.waits_for_transactions:
                    self.awaited.set()
                if answer is not None:
                    await connection.send(answer, text=True)
        except ConnectionClosed:
            pass
        finally:
            self._all.discard(subscriber)

    def send_transaction(self, message: bytes, transaction: Transaction | None) -> None:
        """Send to all who follow transactions or an address of this one. None stands for a malformed message."""
        touched: set[str | None] = set()
        if transaction is not None and any(s.addresses for s in self._all):
            touched = {spent.addr for spent in transaction.inputs} | {paid.addr for paid in transaction.outputs}
        self._send(message, lambda s: s.transactions or not s.addresses.isdisjoint(touched))

    def send_block(self, message: bytes) -> None:
        """Send to all who follow blocks."""
        self._send(message, lambda s: s.blocks)

    def _send(self, message: bytes, wants: Callable[[Subscriber], bool]) -> None:
        receivers = [subscriber for subscriber in self._all if wants(subscriber)]
        for slow in [s for s in receivers if s.connection.transport.get_write_buffer_size() > self._max_unsent_bytes]:
            receivers.remove(slow)
            self._drop(slow)
        broadcast([subscriber.connection for subscriber in receivers], message, text=True)

    def _drop(self, slow: Subscriber) -> None:
        log.warning("slow_client_closed", client=slow.connection.remote_address)
        self._all.discard(slow)
        closing = asyncio.create_task(slow.connection.close(CloseCode.POLICY_VIOLATION, "client reads too slowly"))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _status(message: str) -> bytes:
    return msgspec.json.encode({"op": "status", "msg": message})
