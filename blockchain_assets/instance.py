"""`python -m blockchain_assets.instance` brings Dagster's own tables to its version, and sets the slots of the pools.

Every pool has one slot, so that windows are computed one run after the other: a window's context is made of the
windows before it. The pool `scoring` may be given more where several machines share a backfill. `ingest` has three:
for a shift, for the next one to which it hands over, and for a run whose process has died and that Dagster still takes
for started. A queue full of backfills never holds that up.
"""

import dagster as dg

INGEST_POOL = "ingest"
INGEST_SLOTS = 3


def prepare_instance(instance: dg.DagsterInstance) -> None:
    """Migrate the instance's storage, and set its pools. Safe to repeat."""
    instance.upgrade()
    instance.event_log_storage.set_concurrency_slots(INGEST_POOL, INGEST_SLOTS)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as default_instance:
        prepare_instance(default_instance)
