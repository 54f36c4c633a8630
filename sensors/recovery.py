"""Asks for a reading of the chain when a block was announced, or when a gap waits for its blocks."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from resources.database import DatabaseResource
from sensors.events import running_sensor, was_run_lately
from txwatch.store.blocks import unfetched_blocks
from txwatch.store.database import database_now
from txwatch.store.gaps import Gap, unrecovered_gaps

ASK_AGAIN = timedelta(minutes=10)
"""About the time between blocks. A reading that failed, or came before a gap's blocks were mined, is repeated then."""
NEWEST = "txwatch/newest"
"""The tag of a run that names the newest block and gap of those that it was asked for."""


def reading_needed(unfetched: Sequence[str], gaps: Sequence[Gap]) -> tuple[str, str] | None:
    """Why to read the chain, and the newest block and gap to read it for."""
    ended = [gap for gap in gaps if gap.ended_at is not None]
    if not unfetched and not ended:
        return None
    blocks = [f"{len(unfetched)} new block{'s' * (len(unfetched) > 1)}"] if unfetched else []
    waiting = [f"{len(ended)} gap{'s' * (len(ended) > 1)} to recover"] if ended else []
    newest_gap = max((gap.id for gap in ended), default=0)
    newest_block = unfetched[-1][-16:] if unfetched else "none"
    return ", ".join(blocks + waiting), f"{newest_block}-{newest_gap}"


@running_sensor(
    job_name="recovery",
    minimum_interval_seconds=10,
    description="Asks for a reading of the chain when a block was announced, or when a gap of the feed waits for the"
    " blocks that close it.",
)
def recovery_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
    with database.connect() as connection:
        now = database_now(connection)
        needed = reading_needed(unfetched_blocks(connection, now), unrecovered_gaps(connection))
    if needed is None:
        return dg.SkipReason("Every block was read, and no gap waits.")
    if context.instance.get_runs_count(dg.RunsFilter(job_name="recovery", statuses=[dg.DagsterRunStatus.QUEUED])):
        return dg.SkipReason("A reading waits for its turn: it will see all that is new by then.")
    reason, newest = needed
    if was_run_lately(context.instance, "recovery", now, ASK_AGAIN, {NEWEST: newest}):
        return dg.SkipReason(f"A reading was asked for a while ago: {reason}.")
    context.log.info(f"Asking for a reading of the chain: {reason}.")
    return dg.SensorResult(run_requests=[dg.RunRequest(tags={"txwatch/reason": reason, NEWEST: newest})])
