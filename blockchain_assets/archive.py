"""The archives: each day of transactions, features and scores as one Parquet file, compared with the database."""

from datetime import date, datetime

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.columns import table_metadata
from blockchain_assets.retries import RETRIES
from blockchain_assets.windows import OWNERS, check_result
from resources.database import DatabaseResource
from txwatch.archive.datasets import FEATURES, FORMAT, SCORES, TRANSACTIONS, Dataset
from txwatch.archive.days import count_rows, read_day
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.clock import utc_now

_MADE_OF = {
    keys.TRANSACTIONS_ARCHIVE: (TRANSACTIONS, keys.TRANSACTIONS),
    keys.FEATURES_ARCHIVE: (FEATURES, keys.TRANSACTION_FEATURES),
    keys.SCORES_ARCHIVE: (SCORES, keys.TRANSACTION_SCORES),
}

_OF_ITS_WINDOWS = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
"""A day is made of its windows, also when they are no partitions any more."""


def archive_assets(archive: Archive, earliest_window: datetime) -> list[dg.AssetsDefinition]:
    """An asset for each dataset, by day from that of the earliest window on.

    Its days stay when the windows of which they were made are no partitions any more.
    """
    days = dg.DailyPartitionsDefinition(start_date=f"{earliest_window:%Y-%m-%d}")
    return [_archive_asset(archive, key, dataset, source, days) for key, (dataset, source) in _MADE_OF.items()]


def _archive_asset(
    archive: Archive, key: dg.AssetKey, dataset: Dataset, source: dg.AssetKey, days: dg.DailyPartitionsDefinition
) -> dg.AssetsDefinition:
    as_stored = dg.AssetCheckSpec(
        "as_in_the_database",
        asset=key,
        description="The file has as many rows as the database holds of the day, and nothing was written into the day"
        " since it was read. That the file is what was read, was compared before it got its name.",
    )

    @dg.asset(
        key=key,
        partitions_def=days,
        deps=[dg.AssetDep(source, partition_mapping=_OF_ITS_WINDOWS)],
        group_name="archive",
        code_version=f"format {FORMAT}",
        owners=OWNERS,
        kinds={"parquet"},
        pool="archive",
        metadata={"dagster/column_schema": table_metadata(dataset.table)["dagster/column_schema"]},
        retry_policy=RETRIES,
        check_specs=[as_stored],
        description=f"A row is one of the {dataset.name} of a day, in one Parquet file (docs/archive.md).\n\nWritten"
        " once the day is complete, and again if something comes in later. Rows that only the archive has stay in it.",
    )
    def archived(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
        day = date.fromisoformat(context.partition_key)
        with database.connect() as connection:
            manifest = archive_day(connection, archive, dataset, day, utc_now())
            recorded, stored = read_day(connection, dataset, day), count_rows(connection, dataset, day)
        context.log.info(f"{manifest.rows} rows in {manifest.bytes} bytes: {manifest.file}.")
        passed = recorded is not None and recorded.complete and stored == manifest.stored_rows
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": manifest.rows,
                "bytes": manifest.bytes,
                "bytes_a_row": round(manifest.bytes / manifest.rows, 1) if manifest.rows else 0.0,
                "file": str(archive.file(manifest, dataset)),
                "sha256": manifest.sha256,
                "checksum": manifest.checksum,
                "rows_only_here": manifest.rows - manifest.stored_rows,
            },
            check_results=[check_result(as_stored, passed, {"rows": stored})],
        )

    return archived


archive_job = dg.define_asset_job(
    "archive", keys.ARCHIVES, description="Writes a day into the archive, and compares it with the database."
)
