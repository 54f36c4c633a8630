"""Puts faults back that deployments once had, one after the other, and sees that tests notice: `make deploy-faults`.

Each is a change of one file, in a copy of the project. `--containers` also tries those that only real containers show,
which needs what `make deploy-test` needs, and some minutes for each.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.deploy.compose import PROJECT
from tests.deploy.containers import copy_project

LIMIT_SECONDS = 1_800


@dataclass(frozen=True)
class Fault:
    """What was wrong, the change that brings it back, and which tests must fail then: pytest's arguments."""

    what: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    containers: bool = False


_STARTED = ("tests/deploy/test_containers.py", "-m", "deploy", "-x", "-k")
FAULTS = [
    Fault(
        "Kubernetes: nothing migrates",
        "deploy/kubernetes/chart/templates/migrate.yaml",
        "helm.sh/hook: pre-install,pre-upgrade",
        "helm.sh/hook: test",
        ("tests/deploy/test_kubernetes.py", "-k", "migration_comes_first"),
    ),
    Fault(
        "Kubernetes: models are on a disk that goes with the pod",
        "deploy/kubernetes/chart/templates/mlflow.yaml",
        '"data" $data',
        '"data" ""',
        ("tests/deploy/test_kubernetes.py", "-k", "models_are_kept"),
    ),
    Fault(
        "Kubernetes: the code server never notices that the start of the history has moved",
        "deploy/kubernetes/chart/templates/code.yaml",
        '"python" "-m" "blockchain_assets.platform.code_server" "--runs-elsewhere"',
        '"dagster" "api" "grpc" "-m" "blockchain_assets.definitions" "--location-name" "txwatch"',
        ("tests/deploy/test_kubernetes.py", "-k", "commands_are_those"),
    ),
    Fault(
        "Celery: each machine begins its history on the day on which it started",
        "blockchain_assets/partitions.py",
        "        recorded = read_history_start(connection)\n",
        "        recorded = utc_now()\n",
        ("tests/blockchain_assets/test_definitions.py", "-k", "agree_on_the_first_window"),
    ),
    Fault(
        "AWS: nobody follows the database's login",
        "deploy/terraform/host/refresh",
        "put run/database/pgpass\n",
        "true\n",
        ("tests/deploy/test_host.py", "-k", "new_token"),
    ),
    Fault(
        "AWS: the bot ends where it has no token, and is started again every minute",
        "txwatch/cli.py",
        "        run_until_signalled(wait_without_token)\n",
        "        return\n",
        ("tests/test_cli.py", "-k", "without_a_token"),
    ),
    Fault(
        "Alarms: Prometheus's reach nobody",
        "deploy/monitoring/alertmanager.yml",
        "    webhook_configs:\n      - url_file: /run/secrets/alarm_webhook\n",
        "",
        ("tests/deploy/test_compose_file.py", "-k", "alertmanager"),
    ),
    Fault(
        "Secrets: a service has one that it does not read",
        "docker-compose.yml",
        "secrets: [database_dashboard, api_key]",
        "secrets: [database_dashboard, api_key, telegram_bot_token]",
        ("tests/deploy/test_compose_file.py", "-k", "secrets"),
    ),
    Fault(
        "Database: the dashboard may change what it shows",
        "txwatch/store/roles.py",
        '"dashboard": Rights(reads=("public",), hidden=_SECRETS)',
        '"dashboard": Rights(changes=("public",), hidden=_SECRETS)',
        ("tests/store/test_roles.py",),
    ),
    Fault(
        "Networks: every service reaches the code server",
        "docker-compose.yml",
        "    networks: [database, models]\n",
        "    networks: [database, models, dagster]\n",
        ("tests/deploy/test_compose_file.py", "-k", "networks"),
    ),
    Fault(
        "Secrets, started: a container holds one that its service does not read",
        "docker-compose.yml",
        "secrets: [database_dashboard, api_key]",
        "secrets: [database_dashboard, api_key, telegram_bot_token]",
        (*_STARTED, "is_built or becomes_healthy or each_secret"),
        containers=True,
    ),
    Fault(
        "Alarms, started: Prometheus's reach nobody",
        "deploy/monitoring/alertmanager.yml",
        "receiver: person\n",
        "receiver: heartbeat\n",
        (*_STARTED, "is_built or becomes_healthy or alarms_reach"),
        containers=True,
    ),
]


def notice(fault: Fault) -> tuple[bool, str]:
    """Whether its tests fail with a fault, and pytest's last line."""
    with TemporaryDirectory(prefix="txwatch-fault-") as folder:
        copy = Path(folder) / "project"
        copy_project(copy)
        file = copy / fault.file
        text = file.read_text()
        if text.count(fault.right) == 0:
            return False, f"{fault.file} does not hold what was to be changed"
        file.write_text(text.replace(fault.right, fault.wrong))
        for step in (["init", "--quiet"], ["add", "--all"]):  # those that build an image take what git knows
            subprocess.run(["git", *step], cwd=copy, check=True)
        tools = PROJECT / ".tools"
        if tools.exists():
            (copy / ".tools").symlink_to(tools)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *fault.tests]
        environment = os.environ | {"PYTHONPATH": str(copy)}  # before where the project is installed from
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
        )
    said = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]
    # Any other status than 1, and what fails before a test begins, says nothing of the fault.
    return done.returncode == 1 and " failed" in said and " error" not in said, said


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.faults", description=__doc__)
    parser.add_argument("--containers", action="store_true", help="also those that real containers must show")
    parser.add_argument("only", nargs="?", default="", help="only faults with this in their name")
    options = parser.parse_args()
    missed = 0
    for fault in FAULTS:
        if options.only not in fault.what or (fault.containers and not options.containers):
            continue
        began = time.monotonic()
        noticed, said = notice(fault)
        missed += not noticed
        print(
            f"{'noticed' if noticed else 'MISSED ':8} {fault.what} ({time.monotonic() - began:.0f} s): {said}",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
