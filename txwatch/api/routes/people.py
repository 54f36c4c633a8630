"""Who changed what. Keys are made and revoked at the shell alone: no key can make another."""

from typing import Annotated

from fastapi import APIRouter, Query

from txwatch.api.access import Manager
from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Cursor, Database, Limit
from txwatch.people.changes import Area, Change
from txwatch.queries.cases import list_changes
from txwatch.queries.paging import DEFAULT_LIMIT, Page

router = APIRouter(prefix="/v1", tags=["people"])


@router.get("/changes", summary="Who changed what, newest first", responses=documented(401))
def changes(
    database: Database,
    _: Manager,
    area: Annotated[Area | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Change]:
    """Every change of rules, channels, labels, cases, keys and models since it is recorded, kept for good."""
    return list_changes(database, area=area, cursor=cursor, limit=limit)
