"""How the system stands: what its health checks found, and its figures at this moment."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Cursor, Database, Limit
from txwatch.clock import utc_now
from txwatch.queries.paging import DEFAULT_LIMIT, Page
from txwatch.queries.status import HealthCheck, Overview, latest_health, list_health, read_overview

router = APIRouter(prefix="/v1", tags=["health"])


@router.get("/health", summary="What each health check found last", responses=documented())
def health(database: Database) -> list[HealthCheck]:
    """By name. These are the checks that raise system alerts."""
    return latest_health(database)


@router.get("/health/history", summary="Results of health checks, newest first", responses=documented())
def history(
    database: Database,
    name: Annotated[str | None, Query(pattern="^[!-~]{1,200}$", examples=["lease_stale"])] = None,
    state: Annotated[Literal["well", "wrong", "unknown"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Each change, and every few minutes that nothing changed."""
    return list_health(database, name=name, state=state, cursor=cursor, limit=limit)


@router.get("/overview", summary="How the system stands now", responses=documented())
def overview(database: Database) -> Overview:
    """Rates, lag, model, deliveries: what the dashboard's first page shows."""
    return read_overview(database, utc_now())
