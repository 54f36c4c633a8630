"""`champion_model`: which model scores. A challenger becomes champion through a gate of checks."""

from datetime import timedelta

import dagster as dg

from blockchain_assets.windows import OWNERS
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.clock import utc_now
from txwatch.detection.gate import CHECKS, GateCheck, judge, passes
from txwatch.features.store import read_recent_features

KEY = dg.AssetKey("champion_model")
JUDGED_ON = timedelta(hours=1)


@dg.asset(
    key=KEY,
    deps=["anomaly_model"],
    group_name="models",
    owners=OWNERS,
    kinds={"mlflow"},
    pool="models",
    automation_condition=dg.AutomationCondition.eager(),
    check_specs=[dg.AssetCheckSpec(name, asset=KEY, description=text) for name, text in CHECKS.items()],
    description="Judges the challenger on the last hour of traffic, and moves the alias @champion to it if it passes"
    " every check. Otherwise the champion stays, and the checks say why.",
)
def champion_model(
    context: dg.AssetExecutionContext, database: DatabaseResource, model_registry: ModelRegistryResource
) -> dg.MaterializeResult:
    registry = model_registry.open()
    challenger = registry.challenger()
    if challenger is None:
        raise dg.Failure("There is no challenger to judge: materialize anomaly_model first.", allow_retries=False)
    with database.connect() as connection:
        features = read_recent_features(connection, utc_now() - JUDGED_ON)
    checks = judge(challenger, features)
    champion = registry.champion_version()
    if passes(checks):
        registry.promote(challenger.version, {check.name: check.figures for check in checks})
        champion = challenger.version
    elif champion is None:
        failed = ", ".join(check.name for check in checks if not check.passed)
        raise dg.Failure(f"The first challenger, version {challenger.version}, failed: {failed}.", allow_retries=False)
    context.log.info(f"Challenger {challenger.version}, champion {champion}.")
    return dg.MaterializeResult(
        metadata={
            "champion_version": champion,
            "challenger_version": challenger.version,
            "decision": "promoted" if champion == challenger.version else "kept the champion",
            "threshold": challenger.threshold,
        },
        check_results=[_as_asset_check(check) for check in checks],
    )


def _as_asset_check(check: GateCheck) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=check.passed, check_name=check.name, metadata=dict(check.figures))
