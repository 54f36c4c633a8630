"""A feed for measurements: sends messages that were encoded before the clock starts, as fast as asked.

It speaks just enough of the WebSocket protocol for one client, by plain socket calls, so that it costs next to
nothing beside what is measured. Run as a process: `python -m benchmarks.feed COUNT RATE`; it prints its port.
"""

import base64
import hashlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from queue import SimpleQueue

from txwatch.lab.simulator.traffic import Simulator

DISTINCT = 20_000
"""So many transactions are simulated; from then on they repeat under other txids."""
START = datetime(2024, 3, 14, tzinfo=UTC)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HASH = b'"hash":"'
_BURST = 50


def messages(count: int) -> list[bytes]:
    """Feed messages of simulated transactions, at most DISTINCT."""
    simulator = Simulator("2024-03", seed=1, start=START, rate=1_000)
    simulated = simulator.until(START + timedelta(days=1))
    return [transaction.message for transaction in islice(simulated, min(count, DISTINCT))]


def frame(message: bytes) -> bytes:
    """A text frame as a server sends it (RFC 6455): unmasked, in one piece."""
    size = len(message)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + message
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


def frames(count: int) -> Iterator[bytes]:
    """`count` frames, each of another txid. All but the txids is encoded beforehand."""
    encoded = [frame(message) for message in messages(count)]
    places = [message.index(_HASH) + len(_HASH) for message in encoded]
    for number in range(count):
        whole, start = encoded[number % len(encoded)], places[number % len(encoded)]
        yield b"%b%064x%b" % (whole[:start], number, whole[start + 64 :])


def accept(server: socket.socket) -> socket.socket:
    """Take one client and shake hands. What it subscribes to is not looked at."""
    client, _ = server.accept()
    request = client.recv(65_536)
    key = request.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    place = request.lower().index(key)
    token = base64.b64encode(hashlib.sha1(request[place : place + len(key)] + _GUID).digest())  # noqa: S324 - RFC 6455
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + token
        + b"\r\n\r\n"
    )
    return client


class Pongs(threading.Thread):
    """Hears a client until it leaves, and has the answers to its pings: one that hears none for 20 s closes.

    The one thread that sends takes and sends them: a lock would let it starve this one.
    """

    def __init__(self, client: socket.socket) -> None:
        super().__init__()
        self._client = client
        self._waiting: SimpleQueue[bytes] = SimpleQueue()
        self.start()

    def take(self) -> bytes:
        """The answers that are due, as frames."""
        return b"".join(self._waiting.get() for _ in range(self._waiting.qsize()))

    def run(self) -> None:
        """Hear. A client's frames are small."""
        received = self._client.makefile("rb")
        while len(head := received.read(2)) == 2:
            body = received.read(4 + (head[1] & 0x7F))
            payload = bytes(byte ^ body[i % 4] for i, byte in enumerate(body[4:]))
            if head[0] == 0x89:
                self._waiting.put(b"\x8a" + len(payload).to_bytes(1, "big") + payload)


def send(client: socket.socket, count: int, rate: float) -> None:
    """Send `count` messages at `rate` a second, or with 0 as fast as they are taken. Returns when the client left."""
    pongs = Pongs(client)
    ready = frames(count)
    first = next(ready)
    began = time.monotonic()
    client.sendall(first)
    sent = 1
    while pongs.is_alive():
        due = _BURST if rate == 0 else int((time.monotonic() - began) * rate) + 1 - sent
        burst = list(islice(ready, max(due, 0)))
        sent += len(burst)
        client.sendall(b"".join([*burst, pongs.take()]))
        if rate or sent >= count:
            pongs.join(min(0.02, 1 / rate) if rate else 0.02)  # until the next is due, or the client leaves


def main() -> None:
    count, rate = int(sys.argv[1]), float(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        with accept(server) as client:
            send(client, count, rate)


if __name__ == "__main__":
    main()
