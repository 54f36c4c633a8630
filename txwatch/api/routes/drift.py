"""Drift reports."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from txwatch.api.problems import ProblemError, documented, found
from txwatch.api.routes.parameters import Cursor, Database, Limit, LongTurn
from txwatch.places import ObjectStoreError
from txwatch.queries.models import DriftSummary, list_drift, read_drift_page
from txwatch.queries.paging import DEFAULT_LIMIT, Page

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1/drift", tags=["drift"])


@router.get("", summary="Drift reports, newest first", responses=documented())
def drift(database: Database, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[DriftSummary]:
    """Recent traffic against what the champion was trained on: each feature's distance, and its limit."""
    return list_drift(database, cursor=cursor, limit=limit)


@router.get(
    "/{report_id}",
    summary="One report as a page",
    dependencies=[LongTurn],
    response_class=HTMLResponse,
    responses={**documented(404), 200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def report(
    request: Request,
    database: Database,
    report_id: Annotated[int, Path(ge=1, lt=2**63, description="`id` of a report.", examples=[1])],
) -> HTMLResponse:
    """As it is shown in the dashboard. Its scripts run in a sandbox, without this page's rights."""
    page = found(read_drift_page(database, report_id), "there is no report with this id")
    try:
        html: str | None = page.html or request.app.state.drift_pages.read(page.computed_at)
    except ObjectStoreError as error:
        log.warning("drift_page_away", error=str(error))
        raise ProblemError(503, "the page cannot be read just now", headers={"Retry-After": "60"}) from error
    kept = found(html, "the page of this report is not kept any more")
    return HTMLResponse(kept, headers={"Content-Security-Policy": "sandbox allow-scripts"})
