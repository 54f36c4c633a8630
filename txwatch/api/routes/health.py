"""Whether the system is well: for supervisors, for people, and for Prometheus."""

import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from txwatch.alerts.health import DISK_FREE_SHARE, FEED_SILENT
from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Cursor, Database, Limit
from txwatch.clock import utc_now
from txwatch.queries.paging import DEFAULT_LIMIT, Page
from txwatch.queries.status import HealthCheck, Overview, latest_health, list_health, read_overview

router = APIRouter(tags=["health"])

LAG_SECONDS = 30.0
PENDING_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class Alive:
    """The process answers."""

    status: Literal["alive"] = "alive"


@dataclass(frozen=True)
class Check:
    """One part of the system. `required` ones decide on readiness."""

    name: str
    ok: bool
    required: bool
    detail: str


@dataclass(frozen=True)
class Readiness:
    """Whether the system does its work now, and what of it does not."""

    ready: bool
    checks: list[Check]


@router.get("/health/live", summary="Whether the process answers", responses=documented())
def live() -> Alive:
    """For a supervisor that restarts what does not answer. Looks at nothing else."""
    return Alive()


@router.get(
    "/health/ready",
    summary="Whether the system does its work",
    response_model=Readiness,
    responses={
        **documented(),
        503: {
            "description": "A required part does not work, or the database cannot be reached",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Readiness"}},
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
            },
        },
    },
)
def ready(request: Request, database: Database) -> Any:
    """Looks at the database, the lease of the feed, its lag, the model, the deliveries and the disk; 503 if a required
    one of them fails. Before the first model is trained the model is no requirement."""
    home = request.app.state.settings.home
    disk = shutil.disk_usage(home if home.exists() else ".")
    found = checks(read_overview(database, utc_now()), disk.free / disk.total)
    readiness = Readiness(all(check.ok for check in found if check.required), found)
    return readiness if readiness.ready else JSONResponse(asdict(readiness), 503)


@router.get("/v1/health", summary="What each health check found last", responses=documented())
def health(database: Database) -> list[HealthCheck]:
    """By name. These are the checks that raise system alerts."""
    return latest_health(database)


@router.get("/v1/health/history", summary="Results of health checks, newest first", responses=documented())
def history(
    database: Database,
    name: Annotated[str | None, Query(pattern="^[a-z_:0-9]{1,100}$", examples=["lease_stale"])] = None,
    state: Annotated[Literal["well", "wrong", "unknown"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Each change, and every few minutes that nothing changed."""
    return list_health(database, name=name, state=state, cursor=cursor, limit=limit)


@router.get("/v1/overview", summary="How the system stands now", responses=documented())
def overview(database: Database) -> Overview:
    """Rates, lag, model, deliveries: what the dashboard's first page shows."""
    return read_overview(database, utc_now())


def checks(overview: Overview, disk_free: float) -> list[Check]:
    """What is well and what is not, from what was read."""
    levels, lag = overview.levels, overview.lag_seconds
    return [
        Check("database", True, True, "it answers"),
        Check("lease", overview.is_followed, True, _lease(overview)),
        Check(
            "feed_lag",
            lag is not None and lag <= LAG_SECONDS,
            True,
            "nothing was committed yet" if lag is None else f"committed through {lag:.1f} s ago",
        ),
        Check(
            "feed",
            levels.newest_seen_at is not None and overview.at - levels.newest_seen_at <= FEED_SILENT,
            True,
            "nothing was seen yet"
            if levels.newest_seen_at is None
            else f"newest transaction {_ago(overview.at, levels.newest_seen_at)} ago",
        ),
        Check(
            "model",
            levels.model_version is not None,
            False,
            "none has scored yet" if levels.model_version is None else f"version {levels.model_version} scores",
        ),
        Check(
            "deliveries",
            levels.oldest_pending_at is None or overview.at - levels.oldest_pending_at <= PENDING_FOR,
            False,
            f"{levels.deliveries_pending} wait, {levels.deliveries_uncertain} uncertain, {levels.deliveries_dead} dead",
        ),
        Check("disk", disk_free >= DISK_FREE_SHARE, True, f"{disk_free:.0%} free"),
    ]


def _lease(overview: Overview) -> str:
    if overview.lease is None:
        return "no worker ever ran"
    beat = _ago(overview.at, overview.lease.heartbeat_at)
    return f"{overview.lease.holder}, epoch {overview.lease.epoch}, last heard {beat} ago"


def _ago(now: datetime, then: datetime) -> str:
    return f"{max(0.0, (now - then).total_seconds()):,.0f} s"


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=PlainTextResponse,
    responses={**documented(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> PlainTextResponse:
    """Of the whole system, read from its database, and of this process."""
    return PlainTextResponse(generate_latest(request.app.state.metrics), media_type=CONTENT_TYPE_LATEST)
