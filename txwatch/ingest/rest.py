"""The REST API that gives blocks; and the blocks that a gap needs, from its start until six after its end."""

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Any

import httpx
import structlog

from txwatch.answers import BoundedClient, EndlessAnswerError
from txwatch.store.blocks import Link
from txwatch.store.gaps import Gap
from txwatch.wire.blocks import ListedBlock, MinedBlock, decode_block, decode_listing, is_refusal, mined
from txwatch.wire.messages import MalformedMessageError

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 10.0
"""Seconds between requests; the public service answers more frequent ones with 429."""
TIMEOUT_SECONDS = 60.0
ANSWER_SECONDS = 300.0
"""Seconds for a whole answer, with redirects; one that trickles would hold up all others."""
MAX_BYTES = 256 << 20
"""Bytes of an answer; a block is some megabytes, and some dozens if it is full of small transactions."""
ATTEMPTS = 4
MAX_WAIT_SECONDS = 300.0


class RestError(Exception):
    """A request to the REST API failed; the message says what was asked and what came."""


class RestClient:
    """A REST API. A request is tried `attempts` times, and only once after one that failed, until it answers again.

    Requests are an interval apart. `sleep` and `monotonic` are for tests.
    """

    def __init__(
        self,
        client: BoundedClient,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._interval = interval_seconds
        self._attempts = attempts
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
                response = self._client.request("GET", path)
            # The last two by redirects.
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                failure = f"{type(error).__name__}: {error}"
                if isinstance(error, EndlessAnswerError):
                    break  # it took long enough
            else:
                # A 404 in another form is a proxy's, and says nothing about what was asked for.
                found = response.status_code == HTTPStatus.OK
                if found or (response.status_code == HTTPStatus.NOT_FOUND and is_refusal(response.content)):
                    self._refuses = False
                    return response.content if found else None
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

    def _wait_for_turn(self) -> None:
        if (wait := self._next_at - self._monotonic()) > 0:
            self._sleep(wait)
        self._next_at = self._monotonic() + self._interval


class BlockSource(RestClient):
    """Blocks over REST."""

    def blocks_of(self, day: date) -> list[ListedBlock]:
        """The blocks of a day, UTC. Raises RestError or MalformedMessageError."""
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        body = self.get(f"/blocks/{int(noon.timestamp()) * 1000}?format=json")
        return [] if body is None else decode_listing(body)

    def block(self, block_hash: str) -> MinedBlock | None:
        """A whole block, or None if the service has no such block. Raises RestError or MalformedMessageError."""
        body = self.get(f"/rawblock/{block_hash}")
        if body is None:
            return None
        block = decode_block(body)
        if block.hash != block_hash:
            raise MalformedMessageError(f"asked for, and got block {block.hash}")
        return mined(block)


def _retry_after(response: httpx.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0  # a date, which this service does not send


def rest_client(url: str, **options: Any) -> BoundedClient:
    """The client of a REST API at an address, with what else httpx.AsyncClient takes."""
    return BoundedClient(
        MAX_BYTES, ANSWER_SECONDS, base_url=url, timeout=TIMEOUT_SECONDS, follow_redirects=True, **options
    )


@contextmanager
def block_source(rest_url: str, interval_seconds: float = INTERVAL_SECONDS) -> Iterator[BlockSource]:
    """The REST API at an address, for the length of the `with` block."""
    with rest_client(rest_url) as client:
        yield BlockSource(client, interval_seconds=interval_seconds, attempts=ATTEMPTS)


MEDIAN_OF = 11
MAJORITY = 6
"""Blocks. Miners' clocks differ by hours: only the majority of eleven blocks in a row tells the time, as their median
does (BIP 113). A gap also needs six blocks after its end: by then what was broadcast in it is mined, if its fee was
high enough.
"""
LONGEST_GAP = 4_032
"""Blocks, of four weeks, by which a gap that names its last block is followed down the chain."""
LISTED_BEFORE = timedelta(hours=6)
"""Time before a gap whose listings are read; six blocks take an hour on average, and have taken three."""


@dataclass(frozen=True)
class GapBlocks:
    """The listed blocks that a gap needs, the lowest first; `complete` once the last ones are mined."""

    gap: Gap
    blocks: list[ListedBlock]
    complete: bool

    @property
    def heights(self) -> range:
        """The heights of the chain through them, from some blocks earlier, by which the start of the gap is found.

        Of a gap that names its last block, all those between its ends are earlier.
        """
        earlier = LONGEST_GAP if self.gap.tip is not None else 2 * MEDIAN_OF
        return range(max(0, self.blocks[0].height - earlier), self.blocks[-1].height + 1)


@dataclass(frozen=True)
class MissingBlock:
    """A block that others name as their parent."""

    hash: str
    height: int


def days_listed(gap: Gap, now: datetime) -> list[date]:
    """The days, UTC, whose listings hold the blocks that a gap needs; also the day after, if it has begun."""
    first = (gap.started_at - LISTED_BEFORE).astimezone(UTC).date()
    last = min(now, gap.ended_at_or(now) + timedelta(days=1)).astimezone(UTC).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def blocks_needed(gap: Gap, listed: Sequence[ListedBlock], before: Collection[str], now: datetime) -> GapBlocks:
    """The blocks from a gap's start until six after its end, without those that were announced `before` it."""
    ended_at = gap.ended_at_or(now)
    by_height = sorted({block.hash: block for block in listed}.values(), key=lambda block: block.height)
    early = [datetime.fromtimestamp(block.time, UTC) < gap.started_at for block in by_height]
    late = [datetime.fromtimestamp(block.time, UTC) >= ended_at for block in by_height]
    places = range(len(by_height))
    first = next((i for i in places if sum(early[i : i + MEDIAN_OF]) <= MAJORITY), len(by_height))
    last = next((i for i in places if sum(late[max(0, i + 1 - MEDIAN_OF) : i + 1]) >= MAJORITY), None)
    # With all blocks of the last height: it is not known which is of the chain.
    blocks = [
        block
        for block in by_height[first:]
        if block.hash not in before and (last is None or block.height <= by_height[last].height)
    ]
    return GapBlocks(gap, blocks, complete=last is not None and bool(blocks))


def missing_link(
    need: GapBlocks, links: Mapping[str, Link], done: Collection[str], before: Collection[str]
) -> MissingBlock | None:
    """The highest unsearched block of the chain from a gap's last block down to its start, if there is one.

    The start is reached with a block that was announced `before` it, or with six of eleven whose times are before it.
    """
    height = need.blocks[-1].height
    ends = [block.hash for block in need.blocks if block.height == height]
    # Of several blocks of this height all but one lost a split, and a service may not have all of them.
    place = MissingBlock(next((end for end in ends if end in done), ends[-1]), height)
    early: deque[bool] = deque(maxlen=MEDIAN_OF)
    while place.hash not in before and sum(early) < MAJORITY:
        link = links.get(place.hash)
        if place.hash not in done or link is None or link.height != place.height:
            return place
        early.append(link.block_time < need.gap.started_at)
        place = MissingBlock(link.prev_hash, place.height - 1)
    return None
