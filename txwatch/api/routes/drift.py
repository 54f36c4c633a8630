"""Drift reports."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from txwatch.api.problems import ProblemError, documented
from txwatch.api.routes.parameters import Cursor, Database, Limit
from txwatch.queries.drift import DriftSummary, list_drift, read_drift_html
from txwatch.queries.paging import DEFAULT_LIMIT, Page

router = APIRouter(prefix="/v1/drift", tags=["drift"])


@router.get("", summary="Drift reports, newest first", responses=documented())
def drift(database: Database, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[DriftSummary]:
    """Recent traffic against what the champion was trained on: each feature's distance, and its limit."""
    return list_drift(database, cursor=cursor, limit=limit)


@router.get(
    "/{report_id}",
    summary="One report as a page",
    response_class=HTMLResponse,
    responses={**documented(404), 200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def report(
    database: Database, report_id: Annotated[int, Path(ge=1, lt=2**63, description="`id` of a report.", examples=[1])]
) -> HTMLResponse:
    """As it is shown in the dashboard. Its scripts run in a sandbox, without this page's rights."""
    html = read_drift_html(database, report_id)
    if html is None:
        raise ProblemError(404, "there is no report with this id")
    return HTMLResponse(html, headers={"Content-Security-Policy": "sandbox allow-scripts"})
