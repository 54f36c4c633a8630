"""`python -m blockchain_assets.platform.code_server -h HOST -p PORT` is `dagster api grpc` with three changes.

Runs are forked. A run's process imports Dagster, the definitions and the libraries of models: seconds of work, most of
what the system costs at rest. Here a fork server imports them once, and each run begins as a copy of it. The ingest
worker's run keeps its priority; all others are niced, so that they do not delay it.

The search for dead runs outlives an error, such as a restart of the database. Twice a second the server fails runs
whose process has died, and releases what they held, on a thread that Dagster lets end with its first error. After
that a dead run would keep the slot of its pool, and each run that ends would leave open files until none can be opened.

Its partitions follow the start of the history (`blockchain_assets.platform.moving_start`).
"""

import functools
import gc
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import dagster as dg
import structlog

from blockchain_assets.platform.instance import prepare_instance
from blockchain_assets.platform.moving_start import follow_start

log = structlog.get_logger(__name__)

LIVE_JOB = "ingest_shift"
NICENESS = 5
"""Of all other runs: a busy live lane gets three times the processor time of one of them."""

IMPORTED_BEFORE = [
    "__main__",
    "dagster._grpc.impl",
    "dagster_postgres",
    "feast",
    "mlflow.sklearn",
    "sklearn.compose",
    "sklearn.ensemble",
    "skops.io",
    "blockchain_assets.definitions",
    "txwatch.live.lane",
]
"""What runs import; nothing that starts a thread or opens a connection, which copies would share."""


class ForkedRuns:
    """A `multiprocessing` context for Dagster whose processes are copies of one that has done all imports."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED_BEFORE)
        self.Queue, self.Event = self._context.Queue, self._context.Event

    def Process(self, *, target: Callable[..., None], args: Sequence[Any]) -> BaseProcess:  # noqa: N802 - Dagster's call
        return self._context.Process(target=run, args=(target, *args))

    def begin(self) -> None:
        multiprocessing.forkserver.ensure_running()

    def wait(self) -> None:
        """Return once all is imported. A run that is launched before would not start in time."""
        process = self._context.Process(target=int)
        process.start()
        process.join()


def run(target: Callable[..., None], arguments: Any, job: Any, *rest: Any) -> None:
    """Execute a run in this process, with the priority of its job."""
    # A signal to the code server's group must not reach the runs, which get their own and time to end.
    os.setpgrp()
    # Garbage collection would touch, and so copy, the pages of imported modules.
    gc.freeze()
    if job.job_name != LIVE_JOB:
        os.nice(NICENESS)
    target(arguments, job, *rest)


def adapt(server: type[Any], runs: ForkedRuns) -> None:
    """Make a code server class fork its runs, and go on looking for dead ones after an error. Safe to repeat."""
    initialize, look = server.__init__, server._check_for_orphaned_runs
    if hasattr(initialize, "__wrapped__"):
        return

    @functools.wraps(initialize)
    def initialize_and_wait(self: Any, *arguments: Any, **options: Any) -> None:
        initialize(self, *arguments, **options)
        self._mp_ctx = runs
        runs.wait()  # the server listens only after this

    @functools.wraps(look)
    def look_again(self: object) -> None:
        try:
            look(self)
        except Exception as error:
            log.warning("dead_runs_not_looked_for", cause=str(error).splitlines()[0] if str(error) else repr(error))

    server.__init__, server._check_for_orphaned_runs = initialize_and_wait, look_again


def _taken(options: list[str], name: str) -> bool:
    """Whether the option is among them, from which it is taken."""
    there = name in options
    if there:
        options.remove(name)
    return there


def main() -> None:
    """Serve with the options of `dagster api grpc`.

    `--prepare` makes Dagster's tables first. `--runs-elsewhere`: the launcher starts runs in pods of their own.
    """
    options = sys.argv[1:]
    prepare, elsewhere = (_taken(options, name) for name in ("--prepare", "--runs-elsewhere"))
    runs = None if elsewhere else ForkedRuns()
    if runs is not None:
        runs.begin()
    from dagster._cli.api import grpc_command
    from dagster._grpc.server import DagsterApiServer

    from blockchain_assets.partitions import recorded_start
    from txwatch.settings import Settings

    if prepare:
        with dg.DagsterInstance.get() as instance:
            prepare_instance(instance)
    if runs is not None:
        adapt(DagsterApiServer, runs)
    follow_start(DagsterApiServer, lambda: recorded_start(Settings()))
    grpc_command(["--module-name", "blockchain_assets.definitions", "--location-name", "txwatch", *options])


if __name__ == "__main__":
    main()
