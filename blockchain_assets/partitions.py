"""Five-minute windows as Dagster partitions. The arithmetic is in `txwatch.windows`."""

from datetime import datetime

import dagster as dg

from txwatch.windows import CONTEXT_LAG, KEY_FORMAT

CONTEXT_MAPPING = dg.TimeWindowPartitionMapping(
    start_offset=-CONTEXT_LAG, end_offset=-CONTEXT_LAG, allow_nonexistent_upstream_partitions=True
)
"""A transaction in window W sees the context as of window W - 2."""


def window_partitions(first_window: datetime) -> dg.TimeWindowPartitionsDefinition:
    """All windows since `first_window`."""
    return dg.TimeWindowPartitionsDefinition(start=first_window, cron_schedule="*/5 * * * *", fmt=KEY_FORMAT)
