"""The REST API of mempool.space: with bounds on what is asked at once, and in a time, which follow its answers."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from txwatch.answers import bounds, shown
from txwatch.clock import Clock
from txwatch.sources.source import SourceAwayError
from txwatch.wire.mempool_space import BlockAnswer, decode_block, decode_hash, decode_txids
from txwatch.wire.messages import MalformedMessageError

CONCURRENT = 8
"""Requests at once."""
ATTEMPTS = 4
TIMEOUT_SECONDS = 20.0
ANSWER_SECONDS = 120.0
"""Seconds for a whole answer, with redirects; one that trickles would hold up all others."""
MAX_WAIT_SECONDS = 60.0
MAX_ANSWER_BYTES = 64 << 20
"""Bytes; the txids of a mempool of 900,000 transactions."""
MOST_BLOCKS = 144
"""Blocks of a day, which one resync tells at most; recovery lists those before."""


class RefusedError(SourceAwayError):
    """The server answered a request, and did not give what was asked for."""


class MempoolSpaceRest:
    """The REST API. Requests wait for each other at `rate` a second, and all wait when the service says so."""

    def __init__(self, url: str, rate: float | None, clock: Clock) -> None:
        self._url, self._shown = url, shown(url)
        self._clock = clock
        self._least_interval = self._interval = 1 / rate if rate else 0.0
        self._next_at = 0.0
        self._slowed_at = 0.0
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def txids(self) -> list[str]:
        """All of the mempool. Raises SourceAwayError or MalformedMessageError."""
        return decode_txids(await self.get("/api/mempool/txids"))

    async def tip(self) -> str:
        """The hash of the highest block. Raises SourceAwayError or MalformedMessageError."""
        try:
            return decode_hash(await self.get("/api/blocks/tip/hash"))
        except (RefusedError, MalformedMessageError):
            return decode_hash(await self.get("/api/v1/blocks/tip/hash"))

    async def blocks(self, tip: str, since: datetime) -> list[BlockAnswer]:
        """The blocks mined since a moment by their own times, as far as the server has them, the lowest first.

        Raises SourceAwayError.
        """
        found: list[BlockAnswer] = []
        async with self._client() as client:
            block_hash: str | None = tip
            while block_hash is not None and len(found) < MOST_BLOCKS:
                body = await self._get(client, f"/api/block/{block_hash}", may_lack=True)
                if body is None:
                    break
                try:
                    block = decode_block(body)
                except MalformedMessageError as error:
                    raise SourceAwayError(str(error)) from error
                if block.timestamp < since.timestamp():
                    break
                found.append(block)
                block_hash = block.previousblockhash
        return found[::-1]

    async def transactions(self, txids: Sequence[str]) -> list["bytes | RefusedError"]:
        """Answers, without what has left the mempool meanwhile. Raises SourceAwayError."""

        async def one(client: httpx.AsyncClient, txid: str) -> "bytes | RefusedError | None":
            try:
                return await self._get(client, f"/api/tx/{txid}", may_lack=True)
            except RefusedError as refused:
                return refused

        async with self._client() as client:
            answers = await asyncio.gather(*(one(client, txid) for txid in txids))
        return [answer for answer in answers if answer is not None]

    async def get(self, path: str) -> bytes:
        """One answer. Raises SourceAwayError."""
        async with self._client() as client:
            return await self._get(client, path) or b""

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=True,
            event_hooks=bounds(MAX_ANSWER_BYTES),
        )

    async def _get(self, client: httpx.AsyncClient, path: str, *, may_lack: bool = False) -> bytes | None:
        """The answer; None for 404 if it `may_lack`. Raises RefusedError, or SourceAwayError if there is no answer."""
        loop = asyncio.get_running_loop()
        failure = SourceAwayError(path)
        for attempt in range(ATTEMPTS):
            async with self._slots:
                await self._turn()
                began = loop.time()
                wait = 0.5 * 2**attempt * random.uniform(1.0, 1.2)  # noqa: S311 - jitter, no secret
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        response = await client.get(path)
                # The last two by redirects.
                except (httpx.HTTPError, TimeoutError, httpx.InvalidURL, UnicodeError) as error:
                    failure = SourceAwayError(f"{self._shown}{path}: {type(error).__name__}: {error}")
                else:
                    if response.status_code == HTTPStatus.OK:
                        self._interval = max(self._least_interval, 0.95 * self._interval)
                        return response.content
                    if response.status_code == HTTPStatus.NOT_FOUND and may_lack:
                        return None
                    failure = RefusedError(f"{self._shown}{path}: status {response.status_code}")
                    wait = min(max(wait, retry_after(response, self._clock())), MAX_WAIT_SECONDS)
                    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                        self._slow_down(began, wait)
                    elif response.status_code < 500:
                        break
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(wait)
        raise failure

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_at)
        self._next_at = at + self._interval
        await asyncio.sleep(at - now)

    def _slow_down(self, began: float, wait: float) -> None:
        """Let all requests wait, and each take twice as long: once for those that were under way together."""
        now = asyncio.get_running_loop().time()
        self._next_at = max(self._next_at, now + wait)
        if began >= self._slowed_at:
            self._slowed_at = now
            self._interval = min(2 * max(self._interval, 0.05), MAX_WAIT_SECONDS)


def retry_after(response: httpx.Response, now: datetime) -> float:
    """Seconds to wait, which the header Retry-After tells as a number or a date; 0 without one."""
    text = response.headers.get("Retry-After", "")
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, float(text) if text.isdigit() else (parsedate_to_datetime(text) - now).total_seconds())
    return 0.0
