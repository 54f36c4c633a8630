"""The ASGI application and its server. It connects to nothing before it starts."""

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
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import HTTPConnection

from txwatch.api import problems
from txwatch.api.access import MayRead
from txwatch.api.broadcast import Stream
from txwatch.api.middleware import LoopbackOnly, RequestLog, keeps_request_id, new_request_id
from txwatch.api.problems import ProblemError, problem_response
from txwatch.api.routes import (
    alerts,
    anomalies,
    cases,
    channels,
    drift,
    feed,
    health,
    models,
    people,
    rules,
    scoring,
    stream,
    transactions,
)
from txwatch.api.routes.scoring import Models, Scorer
from txwatch.archive.manifest import archive_of
from txwatch.detection.drift_reports import DriftPages
from txwatch.detection.registry import ModelRegistry
from txwatch.errors import UserError
from txwatch.features.feast import OnlineFeatures
from txwatch.guard import MAX_BODY_BYTES, Guard
from txwatch.logs import configure_logging
from txwatch.metrics import RequestMetrics, Scrapes, metrics_registry
from txwatch.queries.history import History
from txwatch.settings import Settings
from txwatch.store.database import connection_pool
from txwatch.wire.messages import WireTransaction

MAX_REQUESTS = 8
"""Requests that use the database at once. The other connections of the server are for those who write to it."""
MAX_LONG = 2
"""Of these that may take long at once, such as a dry run: the others must find a turn meanwhile."""
WEBSOCKETS: dict[str, Any] = {"ws_max_size": 4096, "ws_ping_interval": 15.0, "ws_per_message_deflate": False}
"""uvicorn's options. A client has next to nothing to say; to compress would cost memory and time for each of them."""
ROUTERS = (
    health,
    transactions,
    anomalies,
    alerts,
    cases,
    channels,
    rules,
    scoring,
    models,
    drift,
    feed,
    stream,
    people,
)


class Api(FastAPI):
    """FastAPI. Its description has problem details in place of its own errors, and the transactions of the feed."""

    def openapi(self) -> dict[str, Any]:
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


def create_app(settings: Settings, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """The API of an installation. Raises MissingSettingError without a database."""
    database_url = settings.require_database_url()
    pool = connection_pool(
        database_url,
        application="txwatch api",
        min_size=1,
        max_size=MAX_REQUESTS + 4,  # scoring and the metrics have theirs besides
        options="-c statement_timeout=30s",
    )
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
        webhooks=channels.webhooks,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings, app.state.pool, app.state.stream = settings, pool, live
    app.state.turns, app.state.long_turns = asyncio.Semaphore(MAX_REQUESTS), asyncio.Semaphore(MAX_LONG)
    app.state.models = Models(registry)
    app.state.scorer = Scorer(pool, app.state.models, whale_btc=settings.whale_btc, whale_usd=settings.whale_usd)
    app.state.drift_pages = DriftPages(settings.report_place)
    app.state.online_features = online
    app.state.history = History(archive_of(settings))
    requests = RequestMetrics()
    app.state.metrics = Scrapes(
        metrics_registry(pool, settings.home, requests, lambda: live.clients, settings.telegram_chats)
    )
    routers = [module.router for module in ROUTERS]
    problems.install(app, [route for router in (health.unkeyed, *routers) for route in router.routes])
    app.include_router(health.unkeyed)
    for router in routers:
        app.include_router(router, dependencies=[MayRead] if settings.api_private else [])
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=Path(fastapi_offline.__file__).with_name("static")))

    # The last one added is the outermost.
    if settings.api_key is None:
        app.add_middleware(LoopbackOnly)
    # Without a key nobody but this machine is answered, by whatever name.
    names = settings.host_names if settings.api_key else ()
    app.add_middleware(
        Guard,
        hosts=names,
        health="/health/live",
        max_body_bytes=max_body_bytes,
        answer=lambda scope, refused: problem_response(
            HTTPConnection(scope), ProblemError(refused.status, refused.detail, headers=refused.headers)
        ),
    )
    app.add_middleware(RequestLog, metrics=requests)
    app.add_middleware(
        CorrelationIdMiddleware, header_name="X-Request-ID", generator=new_request_id, validator=keeps_request_id
    )
    return app


def _docs() -> HTMLResponse:
    """Swagger's page over files of our own.

    The machine may have no way to the Internet, and a page that can ask with the key must run nobody else's scripts.
    """
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


class NotLoopbackError(UserError):
    """Served to others without a key."""


def serve_api(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal. Raises NotLoopbackError for other than loopback while no key is set."""
    if settings.api_key is None and host not in {"127.0.0.1", "::1", "localhost"}:
        raise NotLoopbackError(f"{host} is not loopback: set TXWATCH_API_KEY before others can reach the API")
    configure_logging(settings, process="api")
    # One process, which has the metrics and the stream. Its own log of requests replaces uvicorn's.
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        **WEBSOCKETS,
    )
