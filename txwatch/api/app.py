"""The ASGI application and its server. Nothing connects before it starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastapi_offline
import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from psycopg_pool import ConnectionPool
from starlette.types import ASGIApp, Scope

from txwatch.api import problems
from txwatch.api.middleware import BodyLimit, Limits, LoopbackOnly, Observing, RateLimit
from txwatch.api.problems import ProblemError, problem_response
from txwatch.api.routes import alerts, anomalies, drift, feed, health, models, scoring, stream, transactions
from txwatch.api.routes.scoring import Models, Scorer
from txwatch.api.routes.stream import Stream
from txwatch.detection.drift_reports import DriftPages
from txwatch.detection.registry import ModelRegistry
from txwatch.errors import UserError
from txwatch.features.feast import OnlineFeatures
from txwatch.guard import Guard, Refusal
from txwatch.logs import configure_logging
from txwatch.metrics import RequestMetrics, metrics_registry
from txwatch.settings import Settings
from txwatch.store.database import Connection, connection_pool
from txwatch.wire.messages import WireTransaction

REQUESTS = 8
"""Requests that use the database at once; the rest of the server's connections is for those who write."""
SIZE = REQUESTS + 4
"""Scoring and the metrics have theirs besides."""
STATEMENT_TIMEOUT = "30s"


def open_pool(database_url: str) -> ConnectionPool[Connection]:
    """A pool that is not open yet. Times come back in UTC; a statement is cut after STATEMENT_TIMEOUT."""
    return connection_pool(
        database_url,
        application="txwatch api",
        min_size=1,
        max_size=SIZE,
        options=f"-c statement_timeout={STATEMENT_TIMEOUT}",
    )


ROUTERS = (health, transactions, anomalies, alerts, scoring, models, drift, feed, stream)
DOCS_ASSETS = Path(fastapi_offline.__file__).with_name("static")


class Api(FastAPI):
    """FastAPI, whose description has problem details for its own error models, and the transactions of the feed."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs") | {"Problem": problem}
            (_, wire) = msgspec.json.schema_components([WireTransaction], ref_template="#/components/schemas/{name}")
            schemas |= wire
        return self.openapi_schema or {}


def create_app(settings: Settings, limits: Limits | None = None) -> FastAPI:
    """The API of an installation. Raises MissingSettingError without a database."""
    limits = limits or Limits()
    database_url = settings.require_database_url()
    pool = open_pool(database_url)
    registry = ModelRegistry.of(settings.home, database_url, settings.mlflow_tracking_uri)
    live = Stream(database_url)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    online = OnlineFeatures(database_url, redis_url, timedelta(days=settings.retention_days))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool.open()
        try:
            async with live.running():
                yield
        finally:
            online.close()
            pool.close()

    app = Api(
        title="txwatch",
        version=version("txwatch"),
        description="Unusual unconfirmed Bitcoin transactions, with the reasons. Amounts are in satoshi, times in UTC."
        " Errors are problem details (RFC 9457). Lists come newest first; `next` of a page is the `cursor` of the"
        " one after it.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings, app.state.pool, app.state.stream = settings, pool, live
    app.state.turns = asyncio.Semaphore(REQUESTS)
    app.state.models = Models(registry)
    app.state.scorer = Scorer(pool, app.state.models, whale_btc=settings.whale_btc)
    app.state.drift_pages = DriftPages(settings.report_place)
    app.state.online_features = online
    requests = RequestMetrics()
    app.state.metrics = metrics_registry(pool, settings.home, requests, lambda: live.clients)
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=DOCS_ASSETS))

    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=limits.body_bytes)
    app.add_middleware(RateLimit, limits=limits)
    if settings.api_key is None:
        app.add_middleware(LoopbackOnly)
    # Without a key nobody but this machine is answered, by whatever name.
    names = settings.host_names if settings.api_key else ()
    app.add_middleware(Guard, hosts=names, health="/health/live", answer=_refuse)
    app.add_middleware(Observing, metrics=requests)
    return app


def _refuse(scope: Scope, refusal: Refusal) -> ASGIApp:
    return problem_response(Request(scope), ProblemError(int(refusal.status), refusal.detail))


def _docs() -> HTMLResponse:
    """Swagger's page over files of our own: the machine may have no way to the Internet, and a page that can be asked
    with the key must run nobody else's scripts."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="txwatch",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers["Content-Security-Policy"] = (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    )
    return page


LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class NotLoopbackError(UserError):
    """Served to others without a key."""


def serve_api(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal. Raises NotLoopbackError for other than loopback while no key is set."""
    if settings.api_key is None and host not in LOOPBACK:
        raise NotLoopbackError(f"{host} is not loopback: set TXWATCH_API_KEY before others can reach the API")
    configure_logging(settings, process="api")
    # One process: the metrics, the stream and the limits are its own. Its own lines replace uvicorn's access log.
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
