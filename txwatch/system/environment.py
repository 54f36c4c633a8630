"""The environment that every process of the system gets, and the folders that it points to."""

import os
import shutil
from pathlib import Path

from txwatch.features.catalogue import feast_environment
from txwatch.store.urls import libpq_url, sqlalchemy_url, with_schema

PROJECT = Path(__file__).parents[2]
"""The checkout: Dagster's and Feast's own files are at its top."""

DAGSTER_PORT = 3000
CODE_PORT = 3030
API_PORT = 8000
DASHBOARD_PORT = 8502
MLFLOW_PORT = 5000
FEED_PORT = 8765
TELEGRAM_PORT = 8766
PORTS = {
    "Dagster": DAGSTER_PORT,
    "the code server": CODE_PORT,
    "the API": API_PORT,
    "the dashboard": DASHBOARD_PORT,
    "MLflow": MLFLOW_PORT,
}
DEMO_PORTS = {"the local feed": FEED_PORT, "the local Telegram": TELEGRAM_PORT}
"""Needed besides by the demo."""


def system_environment(home: Path, database_url: str, **settings: str) -> dict[str, str]:
    """This process's environment, completed so that all processes share one home and one database."""
    home = home.resolve()
    dagster_home = home / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "dagster.yaml", dagster_home / "dagster.yaml")
    return os.environ | {
        "TXWATCH_HOME": str(home),
        "DATABASE_URL": libpq_url(database_url),
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_POSTGRES_URL": with_schema(libpq_url(database_url), "dagster"),
        "TXWATCH_CODE_PORT": str(CODE_PORT),
        **feast_environment(database_url),
        # Sensors and runs are many short processes: their libraries must not each start a thread per core.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # For MLflow's own server: where its tables are, and not 1.7 GB of workers for jobs that nobody gives it.
        "MLFLOW_BACKEND_STORE_URI": with_schema(sqlalchemy_url(database_url), "mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "TXWATCH_API_URL": f"http://127.0.0.1:{API_PORT}",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
