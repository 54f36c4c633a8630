"""`transaction_scores`: how unusual the champion finds each transaction, and why."""

from typing import Any

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import ERROR, SCORING_POOL, check_result, window_asset, window_span
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.clock import utc_now, window_key, window_range
from txwatch.detection.model import Model
from txwatch.detection.score_windows import ScoredWindow, score_windows
from txwatch.detection.threshold import publish_recent_scores

ALL_SCORED = dg.AssetCheckSpec(
    "every_transaction_is_scored",
    asset=keys.TRANSACTION_SCORES,
    description="Each transaction that has features has a score.",
)
LANES_AGREE = dg.AssetCheckSpec(
    "lanes_agree",
    asset=keys.TRANSACTION_SCORES,
    description="What the live lane had scored before comes out the same here, of the same model and context.",
)


def transaction_scores_asset(
    windows: dg.TimeWindowPartitionsDefinition, whale_btc: float, whale_usd: float | None = None
) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        key=keys.TRANSACTION_SCORES,
        group_name="detection",
        code_version="2",
        pool=SCORING_POOL,
        deps=[keys.TRANSACTION_FEATURES, dg.AssetDep(keys.CHAMPION_MODEL)],
        kinds={"postgres", "scikitlearn"},
        check_specs=[ALL_SCORED, LANES_AGREE],
        description="A row is one transaction scored by one version of the model: its score, the threshold, and the"
        " reasons of all that spoke.\n\nInsert-only: a window that is scored again adds what is missing and changes"
        " nothing that was sent. A challenger that waits for its promotion scores the same traffic in shadow, without"
        " alerts. Kept for TXWATCH_RETENTION_DAYS.",
    )
    def transaction_scores(
        context: dg.AssetExecutionContext, database: DatabaseResource, model_registry: ModelRegistryResource
    ) -> dg.MaterializeResult:
        registry = model_registry.open()
        model = registry.champion()
        if model is None:
            raise dg.Failure(
                "There is no champion to score with: materialize anomaly_model, then champion_model.",
                allow_retries=False,
            )
        windows_of_run = window_range(*window_span(context))
        shadow = registry.shadow(model)
        with database.connect() as connection:
            scored = score_windows(connection, windows_of_run, model, whale_btc=whale_btc, whale_usd=whale_usd)
            publish_recent_scores(connection, model.version, model.card.alerts_per_hour, utc_now())
            for window in scored:
                context.add_asset_metadata(_figures(window, model), partition_key=window_key(window.window_start))
            if shadow is not None:
                shadowed = score_windows(
                    connection, windows_of_run, shadow, whale_btc=whale_btc, whale_usd=whale_usd, lane="shadow"
                )
                publish_recent_scores(connection, shadow.version, shadow.card.alerts_per_hour, utc_now())
                for window in shadowed:
                    figures = {"shadow_version": shadow.version, "shadow_anomalies": len(window.anomalies)}
                    context.add_asset_metadata(figures, partition_key=window_key(window.window_start))
        unscored = sum(window.unscored for window in scored)
        compared = sum(window.compared for window in scored)
        differing = sum(window.differing for window in scored)
        return dg.MaterializeResult(
            check_results=[
                check_result(ALL_SCORED, unscored == 0, {"without_features": unscored}, ERROR),
                check_result(LANES_AGREE, differing == 0, {"compared": compared, "differing": differing}, ERROR),
            ],
        )

    return transaction_scores


def _figures(window: ScoredWindow, model: Model) -> dict[str, Any]:
    return {
        "scored": window.scored,
        "written": window.written,
        "anomalies": len(window.anomalies),
        "model_version": model.version,
        "threshold": window.threshold or model.threshold,
        "threshold_of_training": model.threshold,
        "unusual": dg.MetadataValue.md(window.markdown()),
    }
