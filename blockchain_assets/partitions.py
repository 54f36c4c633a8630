"""Five-minute windows as Dagster partitions. The arithmetic is in `txwatch.windows`.

Each asset's window depends on the same window of the assets before it, although it reads those of a trailing day, and
features a context that is two windows older: Dagster carries a range that was chosen for a backfill along these
dependencies, and with an offset in one of them the chosen day would become another, in more than one run.
"""

from datetime import datetime

import dagster as dg

from txwatch.windows import KEY_FORMAT


def window_partitions(first_window: datetime) -> dg.TimeWindowPartitionsDefinition:
    """All windows since `first_window`."""
    return dg.TimeWindowPartitionsDefinition(start=first_window, cron_schedule="*/5 * * * *", fmt=KEY_FORMAT)
