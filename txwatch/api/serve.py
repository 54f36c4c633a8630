"""Runs the API under uvicorn."""

import uvicorn

from txwatch.api.app import create_app
from txwatch.errors import UserError
from txwatch.logs import configure_logging
from txwatch.settings import Settings

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
