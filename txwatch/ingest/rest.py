"""The REST API that gives blocks: requests are spaced as the public service wants it, and retried when refused."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http import HTTPStatus

import httpx
import structlog

from txwatch.wire.blocks import ListedBlock, WholeBlock, decode_block, decode_listing, is_refusal
from txwatch.wire.messages import MalformedMessageError

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 10.0
"""The public service answers about one request per 10 s and address; above that, 429."""
TIMEOUT_SECONDS = 60.0
ANSWER_SECONDS = 300.0
"""For a whole answer. One that trickles would hold up all others."""
MAX_BYTES = 256 << 20
"""A block with all its transactions is some megabytes, and some dozens with as many small ones as it holds."""
ATTEMPTS = 4
MAX_WAIT_SECONDS = 300.0


class RestError(Exception):
    """The REST API did not answer as it should; the text says what was asked and what came."""


class BlockSource:
    """Blocks over REST. `sleep` and `monotonic` can be injected, so that a test need not wait.

    While the service refuses everything it is asked once for each block, and ATTEMPTS times again when it has answered.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._interval = interval_seconds
        self._sleep = sleep
        self._monotonic = monotonic
        self._next_at = monotonic()
        self._refuses = False

    def blocks_of(self, day: date) -> list[ListedBlock]:
        """The blocks of a day, UTC. Raises RestError or MalformedMessageError."""
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        body = self._get(f"/blocks/{int(noon.timestamp()) * 1000}?format=json")
        return [] if body is None else decode_listing(body)

    def block(self, block_hash: str) -> WholeBlock | None:
        """A whole block, or None if the service has none of this hash. Raises RestError or MalformedMessageError."""
        body = self._get(f"/rawblock/{block_hash}")
        if body is None:
            return None
        block = decode_block(body)
        if block.hash != block_hash:
            raise MalformedMessageError(f"asked for, and got block {block.hash}")
        return block

    def _get(self, path: str) -> bytes | None:
        failure = ""
        for attempt in range(1 if self._refuses else ATTEMPTS):
            self._wait_for_turn()
            wait = self._interval * 2**attempt
            try:
                response, body = self._answer(path)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == HTTPStatus.OK:
                    self._refuses = False
                    return body
                if response.status_code == HTTPStatus.NOT_FOUND and is_refusal(body):
                    self._refuses = False
                    return None
                # Without the API's own answer it is a proxy's, and says nothing of the block.
                failure = f"status {response.status_code}"
                if response.status_code != HTTPStatus.TOO_MANY_REQUESTS and response.status_code < 500:
                    break
                wait = max(wait, _retry_after(response))
            log.info("rest_retried", path=path, cause=failure, attempt=attempt + 1)
            jitter = random.uniform(1.0, 1.2)  # noqa: S311 - jitter, no secret
            self._next_at = self._monotonic() + min(wait * jitter, MAX_WAIT_SECONDS)
        self._refuses = True
        raise RestError(f"{self._client.base_url}{path}: {failure}")

    def _answer(self, path: str) -> tuple[httpx.Response, bytes]:
        until = self._monotonic() + ANSWER_SECONDS
        body = bytearray()
        with self._client.stream("GET", path) as response:
            for part in response.iter_bytes():
                body += part
                if len(body) > MAX_BYTES or self._monotonic() > until:
                    raise httpx.ReadError(f"no end after {len(body)} bytes")
        return response, bytes(body)

    def _wait_for_turn(self) -> None:
        if (wait := self._next_at - self._monotonic()) > 0:
            self._sleep(wait)
        self._next_at = self._monotonic() + self._interval


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0  # a date, which no service of this kind sends


@contextmanager
def block_source(rest_url: str, interval_seconds: float = INTERVAL_SECONDS) -> Iterator[BlockSource]:
    """The REST API at this address, for the length of the block."""
    with httpx.Client(base_url=rest_url, timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
        yield BlockSource(client, interval_seconds=interval_seconds)
