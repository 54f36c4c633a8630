"""`transaction_scores`: how unusual each transaction is by the champion, and why."""

import dagster as dg

from blockchain_assets.windows import SCORING_POOL, window_asset, window_span
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.detection.scoring import score_windows
from txwatch.windows import window_range

KEY = dg.AssetKey("transaction_scores")
ALL_SCORED = dg.AssetCheckSpec(
    "every_transaction_is_scored", asset=KEY, description="Each transaction that has features has a score."
)


def transaction_scores_asset(windows: dg.TimeWindowPartitionsDefinition, whale_btc: float) -> dg.AssetsDefinition:
    @window_asset(
        windows,
        group="detection",
        pool=SCORING_POOL,
        deps=["transaction_features", dg.AssetDep("champion_model")],
        kinds={"postgres", "scikitlearn"},
        check_specs=[ALL_SCORED],
        description="The champion's score of each transaction with its threshold and reasons. Insert-only: a window"
        " that is scored again adds what is missing and changes nothing that was sent.",
    )
    def transaction_scores(
        context: dg.AssetExecutionContext, database: DatabaseResource, model_registry: ModelRegistryResource
    ) -> dg.MaterializeResult:
        model = model_registry.open().champion()
        if model is None:
            raise dg.Failure(
                "There is no champion to score with: materialize anomaly_model, then champion_model.",
                allow_retries=False,
            )
        start, end = window_span(context)
        with database.connect() as connection:
            result = score_windows(connection, window_range(start, end), model, whale_btc=whale_btc)
        return dg.MaterializeResult(
            metadata={
                "scored": result.scored,
                "written": result.written,
                "anomalies": result.anomalies,
                "model_version": model.version,
                "threshold": model.threshold,
                "unusual": dg.MetadataValue.md(result.markdown()),
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=result.unscored == 0,
                    check_name=ALL_SCORED.name,
                    metadata={"without_features": result.unscored},
                )
            ],
        )

    return transaction_scores
