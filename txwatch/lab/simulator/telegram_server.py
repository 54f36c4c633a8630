"""Serve the local Telegram on loopback, and show messages as a phone would."""

import socket
import threading
from typing import Self

import httpx
import msgspec
import uvicorn
from rich.box import ROUNDED
from rich.panel import Panel
from rich.text import Text

from txwatch.lab.simulator.telegram import LocalTelegram, ReceivedMessage

WIDTH = 48
"""Characters, about those of a line on a phone."""


def phone(message: ReceivedMessage) -> Panel:
    """The text without its markup, the buttons below it, its time, and whether it is silent or an edit."""
    body = Text(message.text)
    if message.buttons:
        body.append("\n\n" + "  ".join(f"[ {label} ]" for label, _ in message.buttons), style="bold")
    notes = [f"{message.edited_at or message.at:%H:%M:%S}"]
    notes += ["edited"] if message.edited_at else []
    notes += ["without sound"] if message.silent else []
    return Panel(
        body,
        box=ROUNDED,
        width=WIDTH,
        title=f"Telegram · chat {message.chat_id}",
        title_align="left",
        subtitle=" · ".join(notes),
        subtitle_align="right",
    )


class LocalPhone:
    """Asks a local Telegram in another process for new messages."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = 0

    def new(self) -> list[Panel]:
        """The messages since the last call; none while the server cannot be reached."""
        try:
            answer = httpx.get(f"{self._url}/received", params={"after": self._seen}, timeout=5)
        except httpx.HTTPError:
            return []
        messages = msgspec.json.decode(answer.content, type=list[ReceivedMessage])
        self._seen += len(messages)
        return [phone(message) for message in messages]


class TelegramServer:
    """A server in a thread, as a context. `refuse` and `accept` close and open its port while it lives."""

    def __init__(self, telegram: LocalTelegram, port: int = 0) -> None:
        self._telegram = telegram
        self.port = port
        self._listener: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, for TELEGRAM_API_URL."""
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Listen. Requests wait in the socket until the server has started."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._server = uvicorn.Server(_config(self._telegram))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Close the port: connections are refused until `accept`."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            # Otherwise the server waits for callers that get no answer.
            self._server.force_exit = True
            self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()


def _config(telegram: LocalTelegram) -> uvicorn.Config:
    return uvicorn.Config(
        telegram.app,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        # A bot that waits for updates would hold up the end for as long as it waits.
        timeout_graceful_shutdown=1,
    )


def serve_telegram(telegram: LocalTelegram, port: int, host: str = "127.0.0.1") -> None:
    """Serve until a signal."""
    uvicorn.Server(_config(telegram)).run(sockets=[socket.create_server((host, port))])
