"""Serves the local Telegram on loopback: in a thread for tests, in the foreground for `txwatch telegram`."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn

from txwatch.simulator.telegram import LocalTelegram


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
