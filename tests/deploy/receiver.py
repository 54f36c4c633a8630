"""A local receiver of webhooks, in place of the service that wakes a person."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.answering import in_a_thread


class Receiver:
    """What was posted, by path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._posted: list[tuple[str, dict[str, Any]]] = []

    def alarms(self, path: str = "/alarm", status: str = "firing") -> list[str]:
        """The names of the alerts that came, in their order."""
        return [
            alert["labels"]["alertname"]
            for where, message in list(self._posted)
            for alert in message["alerts"]
            if where == path and alert["status"] == status
        ]

    def note(self, path: str, message: dict[str, Any]) -> None:
        """Keep what was posted."""
        self._posted.append((path, message))


@contextmanager
def receiving(host: str) -> Iterator[Receiver]:
    """A receiver on a free port of this address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.note(self.path, json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        with in_a_thread(server):
            yield receiver
