"""A receiver of webhooks as somebody else would write one: sockets, and signatures verified by code of its own."""

import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.waiting import PATIENCE_SECONDS

NEVER = b""
"""An answer that does not come while the receiver is there."""
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    """An answer as it goes over the wire, perhaps with another length than it has."""
    lines = [f"HTTP/1.1 {status} Said", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Post:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def told(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.body)
        return said

    def signed_at(self, secret: str) -> datetime | None:
        """When it was signed with this secret; None if it was not."""
        parts = [part.partition("=") for part in self.headers["x-txwatch-signature"].split(",")]
        [seconds] = [value for name, _, value in parts if name == "t"]
        expected = hmac.digest(secret.encode(), seconds.encode() + b"." + self.body, hashlib.sha256).hex()
        if not any(name == "v1" and hmac.compare_digest(value, expected) for name, _, value in parts):
            return None
        return datetime.fromtimestamp(int(seconds), UTC)


@dataclass
class Receiver:
    """Listens on loopback once it is `up`. `answers` are given in turn, then OK; `answering` may decide instead."""

    answers: list[bytes] = field(default_factory=list)
    answering: Callable[[Post], bytes | None] = lambda _: None
    posts: list[Post] = field(default_factory=list)
    """All that came whole, whatever was answered."""
    taken: list[Post] = field(default_factory=list)
    """Those that were answered with OK, or with another 2xx."""
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/of-somebody"

    def up(self) -> None:
        """Listen. Until then connections are refused."""
        self._socket.listen(16)
        threading.Thread(target=self._listen, daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        self._socket.close()

    def keys(self) -> list[str]:
        """The keys of what was taken, each once, in order."""
        return list(dict.fromkeys(post.key for post in self.taken))

    def revisions(self, alert_key: str) -> list[int]:
        """The revisions of an alert that were taken, in order."""
        return [p.told["revision"] for p in self.taken if p.told["alert"]["alert_key"] == alert_key]

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # A client that does not like the certificate hangs up.
        with suppress(OSError):
            self._serve(connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True))

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            head = list(iter(lines.readline, b"\r\n"))
            if not head or b"" in head:
                return
            named = (line.decode().strip().split(": ", 1) for line in head[1:])
            headers = {name.lower(): value for name, value in named}
            body = lines.read(int(headers["content-length"]))
            post = Post(head[0].split()[1].decode(), headers, body)
            with self._lock:
                self.posts.append(post)
                said = self.answering(post) or (self.answers.pop(0) if self.answers else OK)
                if said[9:10] == b"2":
                    self.taken.append(post)
            if said == NEVER:
                self._ended.wait(PATIENCE_SECONDS)
            else:
                connection.sendall(said)


@contextmanager
def receiver(*answers: bytes, up: bool = True, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for the block."""
    one = Receiver(list(answers), tls=tls)
    if up:
        one.up()
    try:
        yield one
    finally:
        one.end()
