"""Five-minute windows as Dagster partitions. The arithmetic is in `txwatch.clock`.

Each asset's window depends on the same window of the assets before it, although it reads those of a trailing day, and
features a context that is two windows older: Dagster carries a range that was chosen for a backfill along these
dependencies, and with an offset in one of them the chosen day would become another, in more than one run.
"""

from datetime import datetime

import dagster as dg

from txwatch.clock import KEY_FORMAT
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.retention import as_window, read_history_start


def first_window(settings: Settings) -> datetime:
    """Start of the first partition: TXWATCH_HISTORY_START, else what the database keeps, the same on all machines.

    Raises psycopg.OperationalError when the database is away.
    """
    if settings.history_start is not None:
        return as_window(settings.history_start)
    with connect(settings.require_database_url(), application="txwatch definitions") as connection:
        recorded = read_history_start(connection)
    if recorded is None:
        raise UserError("The database does not say when the history starts: run txwatch migrate.")
    return recorded


def window_partitions(first_window: datetime) -> dg.TimeWindowPartitionsDefinition:
    """All windows since `first_window`."""
    return dg.TimeWindowPartitionsDefinition(start=first_window, cron_schedule="*/5 * * * *", fmt=KEY_FORMAT)
