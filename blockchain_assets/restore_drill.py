"""The restore drill: whether the newest backup can be restored, and what it holds."""

from pathlib import Path

import dagster as dg
from dagster._core.definitions.metadata import RawMetadataValue

from blockchain_assets.windows import markdown_table
from resources.database import DatabaseResource


def restore_drill_job(home: Path) -> dg.JobDefinition:
    @dg.op(pool="maintenance", description="Restores the newest backup into a server of its own, and counts.")
    def restore_newest_backup(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
        # Alembic stays out of the processes of other runs.
        from txwatch.system.drill import drill

        found = drill(database.url, home)
        report: dict[str, RawMetadataValue] = {
            "file": found.file,
            "made_at": found.card.made_at,
            "schema": found.card.revision,
            "size_mb": round(found.bytes / 1e6, 1),
            "seconds": round(found.seconds, 1),
            "rows": sum(restored for _, _, restored in found.tables),
            "files": found.files,
            "newest_transaction": str(found.newest),
            "tables": markdown_table(["table", "backed up", "restored"], found.tables),
        }
        if found.differing:
            raise dg.Failure(f"{', '.join(found.differing)} did not come back whole from {found.file}", report)
        context.add_output_metadata(report)

    @dg.job(
        name="restore_drill",
        description="Restores the newest file of TXWATCH_HOME/backups into a server of its own, or a backup that it"
        " makes for that, compares the rows of every table with those that were backed up, and removes it again.",
    )
    def restore_drill() -> None:
        restore_newest_backup()

    return restore_drill
