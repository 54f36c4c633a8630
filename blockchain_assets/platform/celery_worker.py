"""`python -m blockchain_assets.platform.celery_worker --name A --slots 2` executes runs by the launcher's settings."""

import argparse

import dagster as dg
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task


class NoCeleryLauncherError(Exception):
    """The instance has another run launcher."""


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
        arguments = [f"--hostname={options.name}@%h", f"--concurrency={options.slots}"]
        arguments += [f"--queues={launcher.default_queue}", "--without-gossip", "--without-mingle", "--loglevel=INFO"]
        app.worker_main(["worker", *arguments])


if __name__ == "__main__":
    main()
