"""The environment that every process of the system gets, and the folders that it points to."""

import os
import sys
from pathlib import Path

from txwatch.features.catalogue import feast_environment
from txwatch.store.urls import libpq_url, sqlalchemy_url, with_schema

LOCAL = "127.0.0.1"
DAGSTER_PORT = 3000
CODE_PORT = 3030
FEED_PORT = 8765
TELEGRAM_PORT = 8766
PORTS = {
    "Dagster": DAGSTER_PORT,
    "the code server": CODE_PORT,
    "the local feed": FEED_PORT,
    "the local Telegram": TELEGRAM_PORT,
}


def project_file(name: str) -> Path:
    """Dagster's own files: at the top of the checkout, and under `share/` where a wheel was installed."""
    checkout = Path(__file__).parents[2] / name
    return checkout if checkout.exists() else Path(sys.prefix) / "share/txwatch" / name


def system_environment(home: Path, database_url: str, **settings: str) -> dict[str, str]:
    """This process's environment, completed so that all processes share one home and one database.

    A variable that is set already says where another machine or container is, and stays as it is.
    """
    home = home.resolve()
    elsewhere = {"DAGSTER_HOME": str(_dagster_home(home)), "TXWATCH_CODE_HOST": LOCAL, "TXWATCH_CODE_PORT": CODE_PORT}
    return {
        **{name: str(value) for name, value in elsewhere.items()},
        **os.environ,
        "TXWATCH_HOME": str(home),
        "DATABASE_URL": libpq_url(database_url),
        "DAGSTER_POSTGRES_URL": with_schema(libpq_url(database_url), "dagster"),
        "MLFLOW_BACKEND_STORE_URI": with_schema(sqlalchemy_url(database_url), "mlflow"),
        **feast_environment(database_url),
        # Sensors and runs are many short processes: their libraries must not each start a thread per core.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


def _dagster_home(home: Path) -> Path:
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    text, copy = project_file("dagster.yaml").read_text(), folder / "dagster.yaml"
    if not copy.exists() or copy.read_text() != text:
        # Several containers share one home: none may read a file that another is writing.
        half = folder / f".dagster.yaml.{os.getpid()}"
        half.write_text(text)
        half.replace(copy)
    return folder
