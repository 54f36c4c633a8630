"""The REST API that gives blocks, and which blocks a gap needs: those from its start until six after its end."""

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus

import httpx
import structlog

from txwatch.store.blocks import Link
from txwatch.store.gaps import Gap
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


MEDIAN_OF = 11
SURE = 6
"""Blocks: miners' clocks differ by hours, so that only the majority of eleven in a row says what time it was (as does
their median, BIP 113). Six is also what a gap needs after its end: what was broadcast in it is mined by then, unless
its fee was too low for the time."""
LISTED_BEFORE = timedelta(hours=6)
"""Six blocks are an hour, and have taken three."""


@dataclass(frozen=True)
class GapBlocks:
    """The listed blocks that a gap needs, by height, the lowest first. Not `complete` while the last are not mined."""

    gap: Gap
    blocks: list[ListedBlock]
    complete: bool

    @property
    def heights(self) -> range:
        """Where the chain through them lies: from some blocks before the first, by which its start is known."""
        return range(self.blocks[0].height - 2 * MEDIAN_OF, self.blocks[-1].height + 1)


@dataclass(frozen=True)
class MissingBlock:
    """A block that others name as the one before them."""

    hash: str
    height: int


def days_listed(gap: Gap, now: datetime) -> list[date]:
    """The days, UTC, whose listings hold the blocks that a gap needs; the next one too, if it has begun."""
    first = (gap.started_at - LISTED_BEFORE).astimezone(UTC).date()
    last = min(now, gap.ended_at_or(now) + timedelta(days=1)).astimezone(UTC).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def blocks_needed(gap: Gap, listed: Sequence[ListedBlock], before: Collection[str], now: datetime) -> GapBlocks:
    """The blocks from a gap's start until six after its end, but for those that were announced `before` it.

    The majority of eleven blocks decides what was mined before the start, and what after the end.
    """
    ended_at = gap.ended_at_or(now)
    by_height = sorted({block.hash: block for block in listed}.values(), key=lambda block: block.height)
    early = [datetime.fromtimestamp(block.time, UTC) < gap.started_at for block in by_height]
    late = [datetime.fromtimestamp(block.time, UTC) >= ended_at for block in by_height]
    places = range(len(by_height))
    first = next((i for i in places if sum(early[i : i + MEDIAN_OF]) <= SURE), len(by_height))
    last = next((i for i in places if sum(late[max(0, i + 1 - MEDIAN_OF) : i + 1]) >= SURE), None)
    # With all of the last height: which of them is of the chain is not known.
    blocks = [block for block in by_height[first:] if last is None or block.height <= by_height[last].height]
    blocks = [block for block in blocks if block.hash not in before]
    return GapBlocks(gap, blocks, complete=last is not None and bool(blocks))


def missing_link(
    need: GapBlocks, links: Mapping[str, Link], done: Collection[str], before: Collection[str]
) -> MissingBlock | None:
    """Of the chain from a gap's last block down to its start, the highest block that was not searched; None for none.

    The start is reached with a block that was announced `before` it, or with six of eleven whose times are.
    """
    height = need.blocks[-1].height
    ends = [block.hash for block in need.blocks if block.height == height]
    # Of several blocks of this height all but one lost a split, and a service may have only the other.
    place = MissingBlock(next((end for end in ends if end in done), ends[-1]), height)
    early: deque[bool] = deque(maxlen=MEDIAN_OF)
    while place.hash not in before and sum(early) < SURE:
        link = links.get(place.hash)
        if place.hash not in done or link is None or link.height != place.height:
            return place
        early.append(link.block_time < need.gap.started_at)
        place = MissingBlock(link.prev_hash, place.height - 1)
    return None
