"""What lies between the feed and those who listen: a TCP proxy on loopback that can fail as a network does."""

import asyncio
import threading
from types import TracebackType
from typing import Self


class Wire:
    """A proxy to a port, in a thread of its own, as a context. `port` is where it listens."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._flows = threading.Event()

    def cut(self) -> None:
        """Reset all connections."""
        self._call(self._end_all(reset=True))

    def close(self) -> None:
        """End all connections in order, in the middle of what they were saying."""
        self._call(self._end_all(reset=False))

    def hold(self) -> None:
        """Let nothing through any more, neither data nor the end of a connection. What is said is lost."""
        self._flows.clear()

    def release(self) -> None:
        """After `hold`: new connections work again; those that were held stay dead, as behind a lost router."""
        self._flows.set()

    def refuse(self) -> None:
        """Reset all connections and take no new ones."""
        self._call(self._stop_listening())
        self.cut()

    def accept(self) -> None:
        """Take connections, at the same port as before."""
        self._call(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self._flows.set()
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        self._call(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_all(self, *, reset: bool) -> None:
        for line in list(self._lines):
            if reset:
                line.transport.abort()
            else:
                line.close()

    async def _settle(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._lines |= both
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._lines -= both
            for line in both:
                line.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = False
        try:
            while data := await reader.read(1 << 16):
                held = held or not self._flows.is_set()
                if not held:
                    writer.write(data)
                    await writer.drain()
            if not (held or not self._flows.is_set()):
                writer.close()
        except (ConnectionError, OSError):
            writer.transport.abort()
