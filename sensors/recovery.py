"""Asks for a reading of the chain when a block was announced, or when a gap waits for its blocks."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from resources.database import DatabaseResource
from sensors.events import running_sensor
from txwatch.clock import utc_now
from txwatch.store.blocks import unfetched_blocks
from txwatch.store.gaps import Gap, unrecovered_gaps

ASK_AGAIN_SECONDS = 600
"""About the time between blocks. A reading that failed, or came before a gap's blocks were mined, is repeated then."""


def reading_needed(unfetched: Sequence[str], gaps: Sequence[Gap], now: datetime) -> tuple[str, str] | None:
    """Why to read the chain, and the run key: that of the same blocks and gaps changes after ASK_AGAIN_SECONDS."""
    ended = [gap for gap in gaps if gap.ended_at is not None]
    if not unfetched and not ended:
        return None
    blocks = [f"{len(unfetched)} new block{'s' * (len(unfetched) > 1)}"] if unfetched else []
    waiting = [f"{len(ended)} gap{'s' * (len(ended) > 1)} to recover"] if ended else []
    newest_gap = max((gap.id for gap in ended), default=0)
    newest_block = unfetched[-1][-16:] if unfetched else "none"
    run_key = f"blocks-{newest_block}-{newest_gap}-{int(now.timestamp()) // ASK_AGAIN_SECONDS}"
    return ", ".join(blocks + waiting), run_key


@running_sensor(
    job_name="recovery",
    minimum_interval_seconds=10,
    description="Asks for a reading of the chain when a block was announced, or when a gap of the feed waits for the"
    " blocks that close it.",
)
def recovery_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult | dg.SkipReason:
    now = utc_now()
    with database.connect() as connection:
        needed = reading_needed(unfetched_blocks(connection, now), unrecovered_gaps(connection), now)
    if needed is None:
        return dg.SkipReason("Every block was read, and no gap waits.")
    if context.instance.get_runs_count(dg.RunsFilter(job_name="recovery", statuses=[dg.DagsterRunStatus.QUEUED])):
        return dg.SkipReason("A reading waits for its turn: it will see all that is new by then.")
    reason, run_key = needed
    context.log.info(f"Asking for a reading of the chain: {reason}.")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=run_key, tags={"txwatch/reason": reason})])
