"""The environment, the folders and the ports of all processes of the system."""

import os
import random
import socket
import sys
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

import yaml

from txwatch.errors import UserError
from txwatch.features.feast import feast_environment
from txwatch.store.database import libpq_url, sqlalchemy_url, with_schema

PROJECT = Path(__file__).parents[2]
"""The checkout, if there is one."""

LOCAL = "127.0.0.1"
DAGSTER_PORT = 3000
CODE_PORT = 3030
CODE_GRACE_SECONDS = 20
"""What a code server that should end gives to calls that it answers; Dagster's minute is longer than a container's."""
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
"""The demo needs these as well."""


# Below those that Linux gives to outgoing connections, of which one could take a port between its choice and its use.
_CHOSEN_FROM = range(20_000, 32_000)
# Each process begins elsewhere, so that of two that choose at the same time neither chooses the other's.
_first = random.SystemRandom().randrange(len(_CHOSEN_FROM))
_chosen: Iterator[int] = cycle([*_CHOSEN_FROM[_first:], *_CHOSEN_FROM[:_first]])


class PortInUseError(UserError):
    """A port that the system needs is taken."""


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of loopback that nobody uses, and that this process has not chosen before."""
    return next(port for port in _chosen if is_free(port))


def require_free(ports: Mapping[str, int]) -> None:
    """Raise PortInUseError for the first of these loopback ports that is taken."""
    for name, port in ports.items():
        if not is_free(port):
            raise PortInUseError(
                f"port {port}, which {name} needs, is in use: is another txwatch running? Stop it first."
            )


def project_file(name: str) -> Path:
    """A file for Dagster: in the checkout, or under `share/` of an installed wheel. An absolute path stays."""
    checkout = PROJECT / name
    return checkout if checkout.exists() else Path(sys.prefix) / "share/txwatch" / name


def system_environment(home: Path, database_url: str, **settings: str) -> dict[str, str]:
    """The environment of this process, completed so that all processes share one home and one database.

    Reads no Settings: what is in the environment is passed on unread, for each process to read and check.
    """
    home = home.resolve()
    return {
        "TXWATCH_CODE_HOST": LOCAL,
        "TXWATCH_CODE_PORT": str(CODE_PORT),
        "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": str(CODE_GRACE_SECONDS),
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
        # For MLflow's server: where its tables are, and no workers for jobs (1.7 GB), which are not used.
        "MLFLOW_BACKEND_STORE_URI": with_schema(sqlalchemy_url(database_url), "mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


def _dagster_home(home: Path) -> Path:
    """The folder with a dagster.yaml: the project's, whose sections those of the file TXWATCH_DAGSTER_YAML replace."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    text, file = project_file("dagster.yaml").read_text(), folder / "dagster.yaml"
    if changes := os.environ.get("TXWATCH_DAGSTER_YAML"):
        sections = yaml.safe_load(text) | yaml.safe_load(project_file(changes).read_text())
        text = yaml.safe_dump(sections, sort_keys=False)
    if not file.exists() or file.read_text() != text:
        # Several containers share one home: none may read a file that another is writing.
        half = folder / f".dagster.yaml.{socket.gethostname()}.{os.getpid()}"
        half.write_text(text)
        half.replace(file)
    return folder
