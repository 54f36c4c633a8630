"""A REST API that answers few requests in a time: asked with patience, and with bounds on what it may answer."""

import random
import time
from collections.abc import Callable
from http import HTTPStatus

import httpx
import msgspec
import structlog

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 10.0
"""Seconds between requests; the public service answers more frequent ones with 429."""
ANSWER_SECONDS = 300.0
"""Seconds for a whole answer; one that trickles would hold up all others."""
MAX_BYTES = 256 << 20
"""Bytes of an answer; a block is some megabytes, and some dozens if it is full of small transactions."""
ATTEMPTS = 4
MAX_WAIT_SECONDS = 300.0


class RestError(Exception):
    """A request to the REST API failed; the message says what was asked and what came."""


class _Refusal(msgspec.Struct):
    error: str


_refusal = msgspec.json.Decoder(_Refusal)


class RestClient:
    """A REST API. A request is tried `attempts` times, and only once after one that failed, until it answers again.

    Requests are an interval apart, an answer has at most so many bytes. `sleep` and `monotonic` are for tests.
    """

    def __init__(
        self,
        client: httpx.Client,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        attempts: int = ATTEMPTS,
        max_bytes: int = MAX_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._interval = interval_seconds
        self._attempts = attempts
        self._max_bytes = max_bytes
        self._sleep = sleep
        self._monotonic = monotonic
        self._next_at = monotonic()
        self._refuses = False

    def get(self, path: str) -> bytes | None:
        """The answer, or None if the service says that there is nothing. Raises RestError."""
        failure = ""
        attempts = 1 if self._refuses else self._attempts
        for attempt in range(attempts):
            self._wait_for_turn()
            wait = self._interval * 2**attempt
            try:
                response, body = self._answer(path)
            # The last two by redirects.
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OverflowError) as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                # A 404 in another form is a proxy's, and says nothing about what was asked for.
                found = response.status_code == HTTPStatus.OK
                if found or (response.status_code == HTTPStatus.NOT_FOUND and _is_refusal(body)):
                    self._refuses = False
                    return body if found else None
                failure = f"status {response.status_code}"
                if response.status_code != HTTPStatus.TOO_MANY_REQUESTS and response.status_code < 500:
                    break
                wait = max(wait, _retry_after(response))
            if attempt + 1 < attempts:
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
                if len(body) > self._max_bytes or self._monotonic() > until:
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
        return 0.0  # a date, which this service does not send


def _is_refusal(body: bytes) -> bool:
    """Whether this is the service's own answer that it has no such thing; a proxy's answer has another form."""
    try:
        _refusal.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
