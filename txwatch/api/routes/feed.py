"""The quality of the feed: gaps, spans, refused messages, blocks."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Cursor, Database, Hours, Limit
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.queries.feed import (
    FeedSpan,
    Gap,
    RecordedBlock,
    RefusedMessage,
    list_blocks,
    list_gaps,
    list_refused,
    read_feed_spans,
)
from txwatch.queries.paging import DEFAULT_LIMIT, Page
from txwatch.queries.sources import SourceQuality, read_sources

router = APIRouter(prefix="/v1/feed", tags=["feed"])


@router.get("/gaps", summary="The ledger of gaps, newest first", responses=documented())
def gaps(
    database: Database,
    state: Annotated[Literal["open", "ended", "recovered", "lost"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Gap]:
    """Each stretch in which a source was not heard, why, and how much of it came back."""
    return list_gaps(database, utc_now(), state=state, cursor=cursor, limit=limit)


@router.get("/sources", summary="The sources that are followed", responses=documented())
def sources(database: Database) -> list[SourceQuality]:
    """What each tells beside the others, how soon, and of what was mined. Sources followed within a day."""
    return read_sources(database, utc_now())


@router.get("/windows", summary="Traffic, lag and completeness by window", responses=documented())
def windows(database: Database, hours: Hours = 6) -> list[FeedSpan]:
    """Five-minute windows, oldest first, the last one under way. `heard` is the share of it that was listened to."""
    now = utc_now()
    start = window_start(now - timedelta(hours=hours))
    return read_feed_spans(database, start, window_start(now) + WINDOW, WINDOW)


@router.get("/refused", summary="Messages in quarantine, newest first", responses=documented())
def refused(database: Database, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[RefusedMessage]:
    """Why each was refused. Bodies stay in the database."""
    return list_refused(database, cursor=cursor, limit=limit)


@router.get("/blocks", summary="Announced blocks, newest first", responses=documented())
def blocks(database: Database, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[RecordedBlock]:
    """A chain split shows as two blocks of one height."""
    return list_blocks(database, cursor=cursor, limit=limit)
