"""What was found unusual, and whales."""

from typing import Annotated

from fastapi import APIRouter, Query

from txwatch.api.problems import documented
from txwatch.api.routes.parameters import MAX_SAT, Cursor, Database, Kind, Limit, Since, Until
from txwatch.queries.anomalies import Anomaly, WhaleMove, list_anomalies, list_whales
from txwatch.queries.paging import DEFAULT_LIMIT, Page

router = APIRouter(prefix="/v1", tags=["anomalies"])


@router.get("/anomalies", summary="Unusual transactions, newest first", responses=documented())
def anomalies(
    database: Database,
    since: Since = None,
    until: Until = None,
    kind: Kind = None,
    min_score: Annotated[float, Query(ge=0, le=1, description="Least score.")] = 0.0,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[Anomaly]:
    """Each with its reasons in words. Unusual, not fraudulent."""
    return list_anomalies(
        database, since=since, until=until, kind=kind, min_score=min_score, cursor=cursor, limit=limit
    )


@router.get("/whales", summary="Large values that likely changed hands, newest first", responses=documented())
def whales(
    database: Database,
    since: Since = None,
    until: Until = None,
    min_moved_sat: Annotated[int, Query(ge=0, le=MAX_SAT, description="Least value likely moved, in satoshi.")] = 0,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[WhaleMove]:
    """The sender's change is left out of `moved_sat`. `flow` follows from what is known of the addresses."""
    return list_whales(database, since=since, until=until, min_moved_sat=min_moved_sat, cursor=cursor, limit=limit)
