"""The environment and folders of every process of the system, and its ports."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from txwatch.errors import UserError
from txwatch.features.feast import feast_environment
from txwatch.store.database import libpq_url, sqlalchemy_url, with_schema


class PortInUseError(UserError):
    """A port that the system needs is taken."""


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_free(ports: Mapping[str, int]) -> None:
    """Raise PortInUseError for the first of these loopback ports that cannot be bound."""
    for name, port in ports.items():
        if not is_free(port):
            raise PortInUseError(
                f"port {port}, which {name} needs, is in use: is another txwatch running? Stop it first."
            )


PROJECT = Path(__file__).parents[2]
"""The checkout, if there is one."""

LOCAL = "127.0.0.1"
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


def project_file(name: str) -> Path:
    """Dagster's own files: in the checkout, and under `share/` where a wheel was installed. An absolute path stays."""
    checkout = PROJECT / name
    return checkout if checkout.exists() else Path(sys.prefix) / "share/txwatch" / name


def system_environment(home: Path, database_url: str, **settings: str) -> dict[str, str]:
    """This process's environment, completed so that all processes share one home and one database.

    TXWATCH_CODE_HOST and TXWATCH_CODE_PORT say where the code server is, if it is in another container, and
    TXWATCH_DAGSTER_YAML which instance to use instead of the project's dagster.yaml.
    """
    home = home.resolve()
    code_server = {"TXWATCH_CODE_HOST": LOCAL, "TXWATCH_CODE_PORT": str(CODE_PORT)}
    return {
        **code_server,
        **os.environ,
        "TXWATCH_HOME": str(home),
        "DAGSTER_HOME": str(_dagster_home(home)),
        "DATABASE_URL": libpq_url(database_url),
        "DAGSTER_POSTGRES_URL": with_schema(libpq_url(database_url), "dagster"),
        **feast_environment(database_url),
        # Sensors and runs are many short processes: their libraries must not each start a thread per core.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # For MLflow's own server: where its tables are, and not 1.7 GB of workers for jobs that nobody gives it.
        "MLFLOW_BACKEND_STORE_URI": with_schema(sqlalchemy_url(database_url), "mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


def _dagster_home(home: Path) -> Path:
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    text = project_file(os.environ.get("TXWATCH_DAGSTER_YAML", "dagster.yaml")).read_text()
    copy = folder / "dagster.yaml"
    if not copy.exists() or copy.read_text() != text:
        # Several containers share one home: none may read a file that another is writing.
        half = folder / f".dagster.yaml.{socket.gethostname()}.{os.getpid()}"
        half.write_text(text)
        half.replace(copy)
    return folder
