"""`transactions`: what the ingest worker landed, by window.

The worker writes the rows, and the landing sensor reports a materialization for each sealed window. Materializing
windows by hand recovers the feed gaps that touch them from blocks, and reports what the windows hold then.
"""

from functools import partial

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import check_result, window_asset, window_span
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from txwatch.clock import window_key, window_range
from txwatch.ingest.recovery import read_chain
from txwatch.ingest.rest import RestError
from txwatch.ingest.sealing import WindowSummary, summarize_windows
from txwatch.store.database import database_now
from txwatch.store.gaps import unrecovered_gaps

NO_GAPS = dg.AssetCheckSpec(
    "no_feed_gap",
    asset=keys.TRANSACTIONS,
    description="The feed was heard during the whole window, or what it missed was recovered.",
)
LANDED_IN_TIME = dg.AssetCheckSpec(
    "landed_within_a_second",
    asset=keys.TRANSACTIONS,
    description="99 % of the window's live transactions were durable within 1 s.",
)
MAX_LAG_MS = 1_000


def transactions_asset(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        key=keys.TRANSACTIONS,
        group_name="ingestion",
        kinds={"postgres"},
        code_version="3",
        check_specs=[NO_GAPS, LANDED_IN_TIME],
        description="A row is one unconfirmed transaction with its exact fee and vsize, in the window in which the"
        " first source told of it, and once only.\n\nThe ingest worker writes the rows; a window is reported here"
        " once it is sealed, and again when something was recovered into it. Materializing windows by hand recovers"
        " their feed gaps from blocks. Kept for TXWATCH_RETENTION_DAYS.",
    )
    def transactions(
        context: dg.AssetExecutionContext, database: DatabaseResource, ingestion: IngestionResource
    ) -> dg.MaterializeResult:
        start, end = window_span(context)
        recovered = 0
        with database.connect() as connection:
            clock = partial(database_now, connection)
            if any(gap.ended_at is not None and gap.touches(start, end) for gap in unrecovered_gaps(connection)):
                try:
                    with ingestion.blocks() as source:
                        recovered = read_chain(connection, source, clock, start=start, end=end).landed
                except RestError as error:
                    # The windows are reported all the same; the check shows that a gap is left.
                    context.log.warning(f"The gaps of these windows could not be recovered: {error}")
            summaries = summarize_windows(connection, window_range(start, end))
        for summary in summaries:
            context.add_asset_metadata(_figures(summary), partition_key=window_key(summary.window_start))
        return dg.MaterializeResult(
            metadata={"recovered_by_this_run": recovered},
            check_results=_checks(
                sum(s.gap_seconds for s in summaries),
                max((s.lag_p99_ms for s in summaries if s.lag_p99_ms is not None), default=None),
            ),
        )

    return transactions


def sealed_events(summary: WindowSummary) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """The events of one sealed window for the landing sensor: its materialization, then its checks.

    The checks name the window in their metadata, not as their partition: outside a run Dagster takes only one
    evaluation of a check for a partition, and a window into which something was recovered is reported again.
    """
    return [
        dg.AssetMaterialization(
            asset_key=keys.TRANSACTIONS,
            partition=window_key(summary.window_start),
            description="Sealed: nothing further can land in this window from the live feed.",
            metadata=_figures(summary),
        ),
        *(
            dg.AssetCheckEvaluation(
                asset_key=keys.TRANSACTIONS,
                check_name=str(check.check_name),
                passed=check.passed,
                severity=check.severity,
                metadata={"window": window_key(summary.window_start), **check.metadata},
            )
            for check in _checks(summary.gap_seconds, summary.lag_p99_ms)
        ),
    ]


def _figures(summary: WindowSummary) -> dict[str, float]:
    lags = {"lag_p50_ms": summary.lag_p50_ms, "lag_p99_ms": summary.lag_p99_ms}
    return {
        "dagster/partition_row_count": summary.rows,
        "live_rows": summary.live_rows,
        "recovered_rows": summary.recovered_rows,
        "gaps": summary.gaps,
        "gap_seconds": summary.gap_seconds,
    } | {name: value for name, value in lags.items() if value is not None}


def _checks(gap_seconds: float, lag_p99_ms: float | None) -> list[dg.AssetCheckResult]:
    lag = {} if lag_p99_ms is None else {"lag_p99_ms": lag_p99_ms}
    in_time = lag_p99_ms is None or lag_p99_ms <= MAX_LAG_MS
    gaps = check_result(NO_GAPS, gap_seconds == 0, {"gap_seconds": gap_seconds})
    return [gaps, check_result(LANDED_IN_TIME, in_time, lag)]
