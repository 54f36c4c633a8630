"""Which blocks a gap in the feed needs: those of the chain from its start until six after its end.

Belongs here: what follows from listings, announcements and links. They are fetched by `recovery.py`.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from txwatch.store.blocks import Link
from txwatch.store.gaps import Gap
from txwatch.wire.blocks import ListedBlock

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
