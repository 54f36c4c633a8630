"""Parameters of many routes: a connection, a page, a span of time."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, TypedDict

from fastapi import Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BeforeValidator

from txwatch.detection.kinds import RULE_PREFIX
from txwatch.queries.paging import DEFAULT_LIMIT, MAX_LIMIT
from txwatch.rules.rule import NAME
from txwatch.store.database import Connection

TXID = "^[0-9a-f]{64}$"
ALERT_KEY = r"^([0-9a-f]{64}|(system|network):[!-~]{1,200})$"
EXAMPLE_TXID = "891af643" + "0" * 56


def _no_bare_number(value: object) -> object:
    """Refuse a number, which would be taken for seconds since 1970."""
    if isinstance(value, str) and value[4:5] != "-":
        raise ValueError("a moment is written as 2024-03-14T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_no_bare_number)]


async def _long_turn(request: Request) -> AsyncIterator[None]:
    async with request.app.state.long_turns:
        yield


LongTurn = Depends(_long_turn)
"""Of a route that may take many seconds, or that asks another server, which may be away."""


async def _connection(request: Request) -> AsyncIterator[Connection]:
    # Requests wait for a connection here, on the loop. In threads, those that wait would soon hold all of them, and
    # those that have a connection would find none to use it in.
    async with request.app.state.turns:
        connection = await run_in_threadpool(request.app.state.pool.getconn)
        try:
            yield connection
        finally:
            request.app.state.pool.putconn(connection)


Database = Annotated[Connection, Depends(_connection)]
Txid = Annotated[str, Path(pattern=TXID, description="Transaction id, 64 hex digits.", examples=[EXAMPLE_TXID])]
AlertKey = Annotated[
    str, Path(pattern=ALERT_KEY, description="The txid, or `system:...` or `network:...`.", examples=[EXAMPLE_TXID])
]
Version = Annotated[str, Path(pattern="^[1-9][0-9]{0,8}$", description="Model version.", examples=["3"])]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=400, pattern="^[A-Za-z0-9_-]+$", description="`next` of the page before this one.")
]
Since = Annotated[
    Moment | None, Query(description="Seen at or after this moment, with its zone.", examples=["2024-03-14T12:00:00Z"])
]
Until = Annotated[
    Moment | None, Query(description="Seen before this moment, with its zone.", examples=["2024-03-14T13:00:00Z"])
]


class Slice(TypedDict):
    """A page of what was seen in [since, until)."""

    since: datetime | None
    until: datetime | None
    cursor: str | None
    limit: int


def _slice(since: Since = None, until: Until = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Slice:
    return Slice(since=since, until=until, cursor=cursor, limit=limit)


Seen = Annotated[Slice, Depends(_slice)]
KIND = f"^([a-z_]{{1,40}}|{RULE_PREFIX}{NAME.pattern})$"
Kind = Annotated[
    str | None, Query(pattern=KIND, description="One of its kinds; a rule's is `rule:<name>`.", examples=["whale"])
]
Hours = Annotated[float, Query(gt=0, le=24 * 7, description="How far back from now, in hours.")]
