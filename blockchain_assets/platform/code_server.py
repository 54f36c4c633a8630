"""Dagster's code server, in which runs are forked, and which outlives a restart of the database.

`python -m blockchain_assets.platform.code_server -h HOST -p PORT` serves as `dagster api grpc` does.

A run is a process that imports Dagster, the definitions and the libraries of models before it does anything: seconds of
work, most of what the system costs at rest. Here these imports are done once, by a fork server, and each run begins as
a copy of it. The worker's run keeps its priority; all others are niced, so that they do not hold it up.

The server looks twice a second for runs whose process has died, fails them, and lets go of what they held. That happens
on a thread which ends for good with its first error. From then on no dead run would be noticed: it keeps the slot of
its pool, and each run that ends leaves a few open files behind, until there are no more to be had.
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

log = structlog.get_logger(__name__)

LIVE_JOB = "ingest_shift"
NICENESS = 5
"""Of all other runs. A live lane that is awake gets three times what one of them gets; alone, they get all there is."""

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
"""What runs import. Nothing that starts a thread or opens a connection: a copy would share it."""


class ForkedRuns:
    """What Dagster asks of `multiprocessing`; its processes are copies of one in which all imports are done."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED_BEFORE)
        self.Queue, self.Event = self._context.Queue, self._context.Event

    def Process(self, *, target: Callable[..., None], args: Sequence[Any]) -> BaseProcess:  # noqa: N802 - Dagster's call
        """The process of a run, not started yet."""
        return self._context.Process(target=run, args=(target, *args))

    def begin(self) -> None:
        """Begin to import, beside what this process does."""
        multiprocessing.forkserver.ensure_running()

    def wait(self) -> None:
        """Return once all is imported: a run that was asked for before would not start in time."""
        process = self._context.Process(target=int)
        process.start()
        process.join()


def run(target: Callable[..., None], arguments: Any, job: Any, *rest: Any) -> None:
    """Execute a run in this process, with the priority of its job."""
    # Whoever ends the code server must not end the runs with it: they are told by themselves, and given their time.
    os.setpgrp()
    # What is there by now stays: no collection needs to look at it, and so to make copies of its pages.
    gc.freeze()
    if job.job_name != LIVE_JOB:
        os.nice(NICENESS)
    target(arguments, job, *rest)


def adapt(server: type[Any], runs: ForkedRuns) -> None:
    """Make a code server's class fork its runs, and look for dead ones again after an error. Does nothing twice."""
    if not hasattr(server.__init__, "__wrapped__"):
        server.__init__ = _forking(server.__init__, runs)
        server._check_for_orphaned_runs = _looking_again(server._check_for_orphaned_runs)


def _forking(initialize: Callable[..., None], runs: ForkedRuns) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_and_wait(server: Any, *arguments: Any, **options: Any) -> None:
        initialize(server, *arguments, **options)
        server._mp_ctx = runs
        # It listens only now, and nobody asks for a run that could not start in time.
        runs.wait()

    return initialize_and_wait


def _looking_again(look: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(look)
    def look_again(server: object) -> None:
        try:
            look(server)
        except Exception as error:
            log.warning("dead_runs_not_looked_for", cause=str(error).splitlines()[0] if str(error) else repr(error))

    return look_again


def main() -> None:
    """Serve the definitions with the options of `dagster api grpc`; with `--prepare` make Dagster's tables before."""
    options = sys.argv[1:]
    runs = ForkedRuns()
    runs.begin()
    from dagster._cli.api import grpc_command
    from dagster._grpc.server import DagsterApiServer

    if "--prepare" in options:
        options.remove("--prepare")
        with dg.DagsterInstance.get() as instance:
            prepare_instance(instance)
    adapt(DagsterApiServer, runs)
    grpc_command(["--module-name", "blockchain_assets.definitions", "--location-name", "txwatch", *options])


if __name__ == "__main__":
    main()
