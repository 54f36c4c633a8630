"""`champion_model`: the model that scores. A challenger becomes champion if it passes a gate of checks."""

from datetime import timedelta

import dagster as dg

from blockchain_assets import keys
from blockchain_assets.windows import OWNERS, markdown_table
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.clock import utc_now, window_start
from txwatch.detection.gate import CHECKS, GateCheck, ModelResult, judge, passes
from txwatch.detection.promotions import promote_challenger
from txwatch.detection.registry import comparable_champion
from txwatch.lab.evaluation.examination import examine, read_held_out, read_judged

JUDGED_ON = timedelta(hours=1)


def champion_model_asset(whale_btc: float) -> dg.AssetsDefinition:
    @dg.asset(
        key=keys.CHAMPION_MODEL,
        deps=[keys.ANOMALY_MODEL],
        group_name="models",
        owners=OWNERS,
        kinds={"mlflow"},
        code_version="2",
        pool="models",
        automation_condition=dg.AutomationCondition.eager(),
        check_specs=[
            dg.AssetCheckSpec(name, asset=keys.CHAMPION_MODEL, description=text) for name, text in CHECKS.items()
        ],
        description="Judges the challenger, beside the champion, on the windows that were held out of its training, on"
        " known cases and on alerts that people judged, and moves the alias @champion to it if it passes every check."
        " Otherwise the champion stays, and the checks say why.",
    )
    def champion_model(
        context: dg.AssetExecutionContext, database: DatabaseResource, model_registry: ModelRegistryResource
    ) -> dg.MaterializeResult:
        registry = model_registry.open()
        challenger = registry.challenger()
        if challenger is None:
            raise dg.Failure("There is no challenger to judge: materialize anomaly_model first.", allow_retries=False)
        champion = comparable_champion(registry)
        now = utc_now()
        with database.connect() as connection:
            held_out = read_held_out(
                connection, max(challenger.card.trained_to, window_start(now - JUDGED_ON)), window_start(now)
            )
            judged = read_judged(connection)
        if not held_out:
            raise dg.Failure(
                f"No window since {challenger.card.trained_to:%Y-%m-%d %H:%M} UTC has features, so there is nothing to"
                " judge on: materialize transaction_features for the last hour.",
                allow_retries=False,
            )
        models = [challenger] if champion is None or champion.version == challenger.version else [challenger, champion]
        results = examine(models, held_out, whale_btc=whale_btc, judged=judged)
        checks = judge(results[0], results[1] if len(results) > 1 else None)
        decision = {
            "challenger": challenger.version,
            "champion": registry.champion_version(),
            "checks": {
                check.name: {"passed": check.passed, "reason": check.reason, **check.figures} for check in checks
            },
            "showings": {result.version: result.figures for result in results},
        }
        reasons = "; ".join(check.reason or check.name for check in checks if not check.passed)
        if passes(checks):
            with database.connect() as connection:
                promote_challenger(connection, registry, challenger.version, decision, now)
        else:
            registry.refuse(challenger.version, decision)
            if registry.champion_version() is None:
                raise dg.Failure(
                    f"The first challenger, version {challenger.version}, was refused: {reasons}.", allow_retries=False
                )
        context.log.info(f"Challenger {challenger.version}: {reasons or 'promoted'}.")
        return dg.MaterializeResult(
            metadata={
                "champion_version": registry.champion_version(),
                "challenger_version": challenger.version,
                "decision": "refused" if reasons else "promoted",
                "reasons": reasons or "It passed every check.",
                "held_out_transactions": len(results[0].scores),
                "comparison": comparison(results),
                "threshold": challenger.threshold,
            },
            check_results=[_as_asset_check(check) for check in checks],
        )

    return champion_model


def comparison(results: list[ModelResult]) -> dg.MarkdownMetadataValue:
    """The figures of each model on the same windows."""
    rows = [
        [name, *(f"{result.figures.get(name, float('nan')):.4g}" for result in results)] for name in results[0].figures
    ]
    return markdown_table(["figure", *(f"version {result.version}" for result in results)], rows)


def _as_asset_check(check: GateCheck) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=check.passed, check_name=check.name, description=check.reason or None, metadata=dict(check.figures)
    )
