"""`blocks`: what was mined, and the share of it that the feed had sent before. Feed gaps are recovered from blocks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.columns import table_metadata
from blockchain_assets.retries import RETRIES
from blockchain_assets.windows import OWNERS, check_result, markdown_table
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from txwatch.alerts.life import insert_chain_updates
from txwatch.clock import utc_now
from txwatch.ingest.recovery import Recovery, read_chain
from txwatch.store.database import database_now
from txwatch.store.sightings import BlockCompleteness, read_completeness

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
    code_version="2",
    metadata=table_metadata("blocks"),
    pool="rest",  # one run at a time: the API answers one request in ten seconds, whoever asks
    retry_policy=RETRIES,
    check_specs=[COMPLETE],
    description="A row is one mined block, by hash, with the share of its transactions that the sources had told"
    " before.\n\nTransactions that were missed are landed from blocks, which closes the gaps of the feed. Also blocks"
    " that lost a chain split are kept, as stale, for TXWATCH_RETENTION_DAYS.",
)
def blocks(
    context: dg.AssetExecutionContext, database: DatabaseResource, ingestion: IngestionResource
) -> dg.MaterializeResult:
    with database.connect() as connection, ingestion.blocks() as source:
        recovery = read_chain(connection, source, partial(database_now, connection))
        with connection.transaction():
            news = insert_chain_updates(connection, utc_now())
        by_source = read_completeness(connection, [block.hash for block in recovery.blocks])
    if recovery.busy:
        context.log.info("Another run is reading the chain.")
    for failure in recovery.failures:
        context.log.warning(f"Left for the next reading: {failure}")
    mined = sum(block.mined for block in recovery.blocks)
    seen_before = sum(block.seen_before for block in recovery.blocks)
    complete = mined == 0 or seen_before / mined >= MIN_COMPLETENESS
    return dg.MaterializeResult(
        metadata=_figures(recovery) | _by_source(by_source) | {"news_of_alerts": news},
        check_results=[check_result(COMPLETE, complete, {"mined": mined, "seen_before": seen_before})],
    )


def _figures(recovery: Recovery) -> dict[str, Any]:
    """What a reading of the chain has done. `completeness` is that of the highest block that was read."""
    figures: dict[str, Any] = {
        "blocks_read": len(recovery.blocks),
        "recovered": recovery.landed,
        "gaps_closed": recovery.gaps_closed,
        "gaps_waiting": recovery.gaps_waiting,
        "not_read": len(recovery.failures),
    }
    blocks = sorted(recovery.blocks, key=lambda block: block.height)
    if not blocks:
        return figures
    shares = ["" if block.completeness is None else f"{block.completeness:.1%}" for block in blocks]
    rows = [(b.height, b.hash, b.mined, b.seen_before, share) for b, share in zip(blocks, shares, strict=True)]
    figures |= {
        "blocks": markdown_table(["height", "hash", "mined", "seen before", "completeness"], rows),
        "height": blocks[-1].height,
    }
    return figures if blocks[-1].completeness is None else figures | {"completeness": blocks[-1].completeness}


def _by_source(found: Sequence[BlockCompleteness]) -> dict[str, Any]:
    """The completeness of the blocks that were read by source, each block and in all."""
    figures: dict[str, Any] = {}
    for source in sorted({one.source for one in found}):
        own = [one for one in found if one.source == source]
        if mined := sum(one.mined for one in own):
            figures[f"completeness_{source}"] = sum(one.seen_before for one in own) / mined
    if found:
        columns = ["height", "source", "mined", "seen before", "left out by its policy"]
        rows = [(one.height, one.source, one.mined, one.seen_before, one.by_policy) for one in found]
        figures["by_source"] = markdown_table(columns, rows)
    return figures


recovery_job = dg.define_asset_job(
    "recovery", [keys.BLOCKS], description="Reads new blocks, and those that the gaps of the feed need."
)
