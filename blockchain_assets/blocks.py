"""`blocks`: what was mined, and how much of it the feed had brought before. Gaps in the feed are recovered from it."""

from functools import partial

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import OWNERS, RETRIES
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from txwatch.alerts.store import insert_chain_news
from txwatch.clock import utc_now
from txwatch.ingest.recovery import Recovery, read_chain
from txwatch.store.blocks import BlockSummary
from txwatch.store.database import database_now

POOL = "rest"
"""One run at a time: the API answers one request in ten seconds, whoever asks."""
COMPLETE = dg.AssetCheckSpec(
    "seen_before_mined",
    asset=keys.BLOCKS,
    description="The feed had brought 90 % of what was mined before the block came.",
)
MIN_COMPLETENESS = 0.9


@dg.asset(
    key=keys.BLOCKS,
    group_name="ingestion",
    owners=OWNERS,
    kinds={"postgres"},
    pool=POOL,
    retry_policy=RETRIES,
    check_specs=[COMPLETE],
    description="Mined blocks by hash, with the transactions that they confirm, and the share of these that the feed"
    " had brought before. Reading them closes the gaps of the feed: what was missed is landed out of them.",
)
def blocks(
    context: dg.AssetExecutionContext, database: DatabaseResource, ingestion: IngestionResource
) -> dg.MaterializeResult:
    with database.connect() as connection, ingestion.blocks() as source:
        recovery = read_chain(connection, source, partial(database_now, connection))
        with connection.transaction():
            news = insert_chain_news(connection, utc_now())
    if recovery.busy:
        context.log.info("Another run is reading the chain.")
    for failure in recovery.failures:
        context.log.warning(f"Left for the next reading: {failure}")
    mined, seen_before = (sum(getattr(block, name) for block in recovery.blocks) for name in ("mined", "seen_before"))
    return dg.MaterializeResult(
        metadata=recovery_metadata(recovery) | {"news_of_alerts": dg.MetadataValue.int(news)},
        check_results=[
            dg.AssetCheckResult(
                passed=mined == 0 or seen_before / mined >= MIN_COMPLETENESS,
                check_name=COMPLETE.name,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"mined": mined, "seen_before": seen_before},
            )
        ],
    )


def recovery_metadata(recovery: Recovery) -> dict[str, dg.MetadataValue]:
    """What a reading of the chain has done; `completeness` is that of the highest block that was read."""
    metadata: dict[str, dg.MetadataValue] = {
        "blocks_read": dg.MetadataValue.int(len(recovery.blocks)),
        "recovered": dg.MetadataValue.int(recovery.landed),
        "gaps_closed": dg.MetadataValue.int(recovery.gaps_closed),
        "gaps_waiting": dg.MetadataValue.int(recovery.gaps_waiting),
        "not_read": dg.MetadataValue.int(len(recovery.failures)),
    }
    by_height = sorted(recovery.blocks, key=lambda block: block.height)
    if by_height:
        metadata["blocks"] = dg.MetadataValue.md(_table(by_height))
        metadata["height"] = dg.MetadataValue.int(by_height[-1].height)
        if by_height[-1].completeness is not None:
            metadata["completeness"] = dg.MetadataValue.float(by_height[-1].completeness)
    return metadata


def _table(blocks: list[BlockSummary]) -> str:
    lines = ["| height | hash | mined | seen before | completeness |", "|---|---|---|---|---|"]
    for block in blocks:
        share = "" if block.completeness is None else f"{block.completeness:.1%}"
        lines.append(f"| {block.height} | {block.hash} | {block.mined} | {block.seen_before} | {share} |")
    return "\n".join(lines)


recovery_job = dg.define_asset_job(
    "recovery",
    selection=[keys.BLOCKS],
    executor_def=dg.in_process_executor,
    description="Reads the blocks that are new, and those that the gaps of the feed need.",
)
