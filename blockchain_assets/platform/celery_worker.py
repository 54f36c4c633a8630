"""Execute runs here until a signal: `python -m blockchain_assets.platform.celery_worker --name A --slots 2`.

Broker and settings are those of the run launcher in DAGSTER_HOME's dagster.yaml, so that they are set once.
"""

import argparse

import dagster as dg
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task


class NoCeleryLauncherError(Exception):
    """The instance launches its runs in another way."""


def main() -> None:
    """Work. Raises NoCeleryLauncherError."""
    parser = argparse.ArgumentParser(prog="python -m blockchain_assets.platform.celery_worker")
    parser.add_argument("--name", default="txwatch", help="names this worker, together with the host")
    parser.add_argument("--slots", type=int, default=2, help="runs at once")
    options = parser.parse_args()
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, CeleryRunLauncher):
            raise NoCeleryLauncherError(
                f"{instance.root_directory}/dagster.yaml has no Celery run launcher: set"
                " TXWATCH_DAGSTER_YAML=deploy/celery/dagster.yaml"
            )
        app = launcher.celery
        create_execute_job_task(app)
        create_resume_job_task(app)
        app.worker_main(
            [
                "worker",
                f"--hostname={options.name}@%h",
                f"--concurrency={options.slots}",
                f"--queues={launcher.default_queue}",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=INFO",
            ]
        )


if __name__ == "__main__":
    main()
