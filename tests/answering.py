"""A server that answers whatever it is asked in one way, such as without an end."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def in_a_thread(server: socketserver.TCPServer) -> Iterator[str]:
    """Let a server serve beside the block. Gives its address."""
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        serving.join()


@contextmanager
def answering(status: int, headers: dict[str, str], body: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """A server that gives the same answer to all but what it was led to, which is an empty listing."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.give()

        def do_POST(self) -> None:
            self.give()

        def give(self) -> None:
            at_the_end = self.path == "/there"
            self.send_response(200 if at_the_end else status)
            for name, value in {} if at_the_end else headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [b"[]"] if at_the_end else body():
                    self.wfile.write(part)
            except OSError:
                """The client has had enough."""

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server, in_a_thread(server) as url:
        yield url
