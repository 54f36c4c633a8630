"""An SMTP server on loopback that keeps what it gets."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

from tests.waiting import PATIENCE_SECONDS


@dataclass
class Mailbox:
    """What came, and where to send it. While `refusal` is set no message is taken."""

    port: int = 0
    received: list[EmailMessage] = field(default_factory=list)
    refusal: str = ""

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        if self.refusal:
            return self.refusal
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A server for the block, in a thread."""
    mailbox, started = Mailbox(), threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", 0)
        mailbox.port = server.sockets[0].getsockname()[1]
        stopped.add_done_callback(lambda _: server.close())
        started.set()
        await stopped

    stopped: asyncio.Future[None] = loop.create_future()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert started.wait(PATIENCE_SECONDS)
    try:
        yield mailbox
    finally:
        loop.call_soon_threadsafe(stopped.set_result, None)
        thread.join(PATIENCE_SECONDS)
        loop.close()
