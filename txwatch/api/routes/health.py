"""Whether the system is well: for supervisors, for people, and for Prometheus."""

import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from txwatch.alerts.health import DISK_FREE_SHARE, FEED_SILENT
from txwatch.api.access import SeesChannels
from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Cursor, Database, Limit
from txwatch.clock import utc_now
from txwatch.queries.paging import DEFAULT_LIMIT, Page
from txwatch.queries.status import HealthCheck, Overview, latest_health, list_health, read_overview

router, unkeyed = APIRouter(tags=["health"]), APIRouter(tags=["health"])
"""What supervisors and Prometheus ask needs no key, also where reading does."""

MAX_LAG_SECONDS = 30.0
MAX_PENDING = timedelta(minutes=10)


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
    """Whether the system does its work now, and which part of it does not."""

    ready: bool
    checks: list[Check]


@unkeyed.get("/health/live", summary="Whether the process answers", responses=documented())
def live() -> Alive:
    """For a supervisor that restarts what does not answer. Looks at nothing else."""
    return Alive()


@unkeyed.get(
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
    """Checks the database, the feed and its lease and lag, the model, the deliveries and the disk.

    503 if a required one of them fails.
    """
    home = request.app.state.settings.home
    disk = shutil.disk_usage(home if home.exists() else ".")
    found = checks(read_overview(database, utc_now()), disk.free / disk.total)
    readiness = Readiness(all(check.ok for check in found if check.required), found)
    return readiness if readiness.ready else JSONResponse(asdict(readiness), 503)


@router.get("/v1/health", summary="What each health check found last", responses=documented())
def health(private: SeesChannels, database: Database) -> list[HealthCheck]:
    """By name. These are the checks that raise system alerts; those of chats need a key with the scope `manage`."""
    return latest_health(database, private=private)


@router.get("/v1/health/history", summary="Results of health checks, newest first", responses=documented())
def history(
    private: SeesChannels,  # before the connection, for it takes one too
    database: Database,
    name: Annotated[str | None, Query(pattern="^[!-~]{1,200}$", examples=["lease_stale"])] = None,
    state: Annotated[Literal["well", "wrong", "unknown"] | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[HealthCheck]:
    """Each change, and every few minutes that nothing changed."""
    return list_health(database, name=name, state=state, private=private, cursor=cursor, limit=limit)


@router.get("/v1/overview", summary="How the system stands now", responses=documented())
def overview(database: Database) -> Overview:
    """Rates, lag, model, deliveries: what the dashboard's first page shows."""
    return read_overview(database, utc_now())


def checks(overview: Overview, disk_free: float) -> list[Check]:
    """What is well and what is not, from what was read."""
    levels, lag, lease = overview.levels, overview.lag_seconds, overview.lease
    followed, committed, seen = "no worker ever ran", "nothing was committed yet", "nothing was heard yet"
    heard = False
    if lease is not None:
        followed = f"{lease.holder}, epoch {lease.epoch}, last heard {_ago(overview.at, lease.heartbeat_at)}"
    if lease is not None and lease.heard_at is not None:
        # Both by the database's clock.
        heard = lease.heartbeat_at - lease.heard_at <= FEED_SILENT
        seen = f"newest transaction {_ago(overview.at, lease.heard_at)}"
    if lag is not None:
        committed = f"committed through {lag:.1f} s ago"
    version, pending = levels.model_version, levels.oldest_pending_at
    waiting = (
        f"{levels.deliveries_pending} wait, {levels.deliveries_uncertain} uncertain, {levels.deliveries_dead} dead"
    )
    return [
        Check("database", True, True, "it answers"),
        Check("lease", overview.is_followed, True, followed),
        Check("feed_lag", lag is not None and lag <= MAX_LAG_SECONDS, True, committed),
        Check("feed", heard, True, seen),
        # Not required: the first model is trained after some hours.
        Check("model", version is not None, False, f"version {version} scores" if version else "none has scored yet"),
        Check("deliveries", pending is None or overview.at - pending <= MAX_PENDING, False, waiting),
        Check("disk", disk_free >= DISK_FREE_SHARE, True, f"{disk_free:.0%} free"),
    ]


def _ago(now: datetime, then: datetime) -> str:
    return f"{max(0.0, (now - then).total_seconds()):,.0f} s ago"


@unkeyed.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=PlainTextResponse,
    responses={**documented(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> PlainTextResponse:
    """Of the whole system, read from its database, and of this process."""
    return PlainTextResponse(await request.app.state.metrics.read(), media_type=CONTENT_TYPE_LATEST)
