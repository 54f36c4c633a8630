"""What Dagster's code server needs to outlive a restart of the database.

It looks twice a second for runs whose process has died, fails them, and lets go of what they held. That happens on a
thread which ends for good with its first error. From then on no dead run is noticed: it keeps the slot of its pool, and
each run that ends leaves a few open files behind, until there are no more to be had.
"""

import functools
import sys

import structlog

log = structlog.get_logger(__name__)


def outlive_the_database() -> None:
    """In a code server, look for dead runs again after an error. Does nothing elsewhere, nor a second time."""
    module = sys.modules.get("dagster._grpc.server")
    if module is None:
        return
    look = module.DagsterApiServer._check_for_orphaned_runs
    if hasattr(look, "__wrapped__"):
        return

    @functools.wraps(look)
    def look_again(server: object) -> None:
        try:
            look(server)
        except Exception as error:
            log.warning("dead_runs_not_looked_for", cause=str(error).splitlines()[0] if str(error) else repr(error))

    module.DagsterApiServer._check_for_orphaned_runs = look_again
