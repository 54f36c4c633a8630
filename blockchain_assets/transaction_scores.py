"""`transaction_scores`: how unusual each transaction is by the champion, and why."""

from typing import Any

import dagster as dg

from blockchain_assets.windows import SCORING_POOL, window_asset, window_span
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.clock import utc_now
from txwatch.detection.recent_scores import publish_recent_scores
from txwatch.detection.scoring import score_windows
from txwatch.windows import window_range

KEY = dg.AssetKey("transaction_scores")
ALL_SCORED = dg.AssetCheckSpec(
    "every_transaction_is_scored", asset=KEY, description="Each transaction that has features has a score."
)
LANES_AGREE = dg.AssetCheckSpec(
    "lanes_agree",
    asset=KEY,
    description="What the live lane had scored before comes out the same here, of the same model and context.",
)


def transaction_scores_asset(windows: dg.TimeWindowPartitionsDefinition, whale_btc: float) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        group="detection",
        pool=SCORING_POOL,
        deps=["transaction_features", dg.AssetDep("champion_model")],
        kinds={"postgres", "scikitlearn"},
        check_specs=[ALL_SCORED, LANES_AGREE],
        description="The champion's score of each transaction with its threshold and reasons. Insert-only: a window"
        " that is scored again adds what is missing and changes nothing that was sent. A challenger that waits for its"
        " promotion scores the same traffic in shadow, which nobody is told of.",
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
            result = score_windows(connection, windows_of_run, model, whale_btc=whale_btc)
            publish_recent_scores(connection, model, utc_now())
            metadata: dict[str, Any] = {
                "scored": result.scored,
                "written": result.written,
                "anomalies": result.anomalies,
                "model_version": model.version,
                "threshold": result.threshold or model.threshold,
                "threshold_of_training": model.threshold,
                "unusual": dg.MetadataValue.md(result.markdown()),
            }
            if shadow is not None:
                shadowed = score_windows(connection, windows_of_run, shadow, whale_btc=whale_btc, lane="shadow")
                publish_recent_scores(connection, shadow, utc_now())
                metadata |= {"shadow_version": shadow.version, "shadow_anomalies": shadowed.anomalies}
        return dg.MaterializeResult(
            metadata=metadata,
            check_results=[
                dg.AssetCheckResult(
                    passed=result.unscored == 0,
                    check_name=ALL_SCORED.name,
                    metadata={"without_features": result.unscored},
                ),
                dg.AssetCheckResult(
                    passed=result.differing == 0,
                    check_name=LANES_AGREE.name,
                    metadata={"compared": result.compared, "differing": result.differing},
                ),
            ],
        )

    return transaction_scores
