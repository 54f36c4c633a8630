"""Serve the local Telegram on loopback, and show messages as a phone would."""

import socket
import threading
from types import TracebackType
from typing import Self

import httpx
import msgspec
import uvicorn
from rich.box import ROUNDED
from rich.panel import Panel
from rich.text import Text

from txwatch.lab.simulator.telegram import LocalTelegram, ReceivedMessage

WIDTH = 48
"""About the characters in a line of a phone."""


def phone(message: ReceivedMessage) -> Panel:
    """The text without its markup, the buttons below it, and when it came; silent ones and edits say so."""
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
    """Asks a local Telegram in another process for what came since the last time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = 0

    def new(self) -> list[Panel]:
        """The new messages as a phone shows them; none while the server cannot be reached."""
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
        """The base URL, as TELEGRAM_API_URL takes it."""
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Listen. What is asked from now on waits in the socket until the server has started."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self._listener = listener
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(_config(self._telegram))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="local telegram", daemon=True
        )
        self._thread.start()

    def refuse(self) -> None:
        """Close the port: connections are refused until `accept`."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            # Callers that were left without an answer would hold the server up.
            self._server.force_exit = True
            self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()


def _config(telegram: LocalTelegram) -> uvicorn.Config:
    return uvicorn.Config(telegram.app, lifespan="off", ws="none", log_level="warning", access_log=False)


def serve_telegram(telegram: LocalTelegram, port: int, host: str = "127.0.0.1") -> None:
    """Serve in the foreground until a signal."""
    listener = socket.create_server((host, port))
    uvicorn.Server(_config(telegram)).run(sockets=[listener])
