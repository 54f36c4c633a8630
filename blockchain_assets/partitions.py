"""Five-minute windows as Dagster partitions.

Each asset's window depends on the same window of the assets before it, although it reads windows of a trailing day or a
context two windows older. Dagster carries the range of a backfill along the dependencies: an offset in one of them
would shift the chosen range, and split it into several runs.
"""

from datetime import datetime

import dagster as dg

from txwatch.clock import KEY_FORMAT
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.retention import as_window, read_history_start


def first_window(settings: Settings) -> datetime:
    """TXWATCH_HISTORY_START, else the database's start. Raises UserError without one, and psycopg.OperationalError."""
    if settings.history_start is not None:
        return as_window(settings.history_start)
    with connect(settings.require_database_url(), application="txwatch definitions") as connection:
        recorded = read_history_start(connection)
    if recorded is None:
        raise UserError("The database does not say when the history starts: run txwatch migrate.")
    return recorded


def window_partitions(first_window: datetime) -> dg.TimeWindowPartitionsDefinition:
    return dg.TimeWindowPartitionsDefinition(start=first_window, cron_schedule="*/5 * * * *", fmt=KEY_FORMAT)
