"""Starts the whole system on this machine: `txwatch run` on the live feed, `txwatch demo` on simulated traffic."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from txwatch.settings import Settings
from txwatch.store.cluster import embedded_postgres, embedded_postgres_shared
from txwatch.system.doctor.findings import place_of
from txwatch.system.environment import (
    API_PORT,
    DAGSTER_PORT,
    DASHBOARD_PORT,
    MLFLOW_PORT,
    PORTS,
    system_environment,
)
from txwatch.system.ports import require_free
from txwatch.system.prepare import prepare_database
from txwatch.system.processes import (
    beside,
    bot_process,
    dagster_processes,
    first_worker_process,
    pages_processes,
    supervise,
)
from txwatch.system.progress import console
from txwatch.system.watch import Watch


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database that DATABASE_URL names, or of the embedded server, which runs for the block."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres(settings.home) as url:
        yield url


@contextmanager
def database_beside(settings: Settings) -> Iterator[str]:
    """The same beside a system that may be running, whose embedded server is then used and left running."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres_shared(settings.home) as url:
        yield url


def launch(
    settings: Settings,
    database_url: str,
    *,
    extra: Mapping[str, list[str]] | None = None,
    sensors_after: Path | None = None,
    watch: Callable[[threading.Event], None],
    **environment_settings: str,
) -> int:
    """Run a worker, the `extra` processes, Dagster and the pages until `watch` returns or a signal arrives.

    The worker is first: it follows the feed within seconds, and Dagster takes over from it once it is there. Dagster's
    sensors begin once the file `sensors_after` is there, if one is named. Returns the exit status.
    """
    environment = system_environment(settings.home, database_url, **environment_settings)
    logs = Path(environment["TXWATCH_HOME"]) / "logs"
    start = environment_settings.get("TXWATCH_HISTORY_START")
    prepare_database(settings.home, database_url, datetime.fromisoformat(start) if start else settings.history_start)
    pages = pages_processes(mlflow=settings.mlflow_tracking_uri is None)
    mlflow = place_of(settings.mlflow_tracking_uri or f"http://127.0.0.1:{MLFLOW_PORT}")
    console.print(
        f"Dashboard: http://127.0.0.1:{DASHBOARD_PORT}   Dagster: http://127.0.0.1:{DAGSTER_PORT}"
        f"   API: http://127.0.0.1:{API_PORT}   MLflow: {mlflow}"
        f"   logs: {settings.home / 'logs'}",
        soft_wrap=True,
    )
    commands = {**dict(extra or {}), **dagster_processes(daemon_after=sensors_after), **pages}
    with beside(first_worker_process(), environment, logs / "worker.log"):
        return supervise(commands, environment, logs, watch)


def run_live(settings: Settings) -> int:
    """The system on the live feed, until a signal ends it."""
    require_free(PORTS)
    with database(settings) as url:
        console.print(f"Watching {settings.stream_url}. Ctrl-C ends.")
        extra = {"bot": bot_process()} if settings.telegram_chats else {}
        return launch(settings, url, extra=extra, watch=Watch(settings, url))
