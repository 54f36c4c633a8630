"""`backtests`: what models would have alerted on in archived days: a challenger is tried before it is promoted."""

from datetime import date, datetime

import dagster as dg
from pydantic import Field

from blockchain_assets import keys
from blockchain_assets.retries import RETRIES
from blockchain_assets.windows import OWNERS, markdown_table
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.archive.manifest import Archive
from txwatch.detection.kinds import raising
from txwatch.lab.evaluation.backtest import Backtest
from txwatch.lab.evaluation.backtest_days import day_detectors, day_outcomes, together

MAX_SHOWN = 20


class Tried(dg.Config):
    """The models that are tried."""

    models: list[str] = Field(
        ["champion", "challenger"], description="Versions or aliases.", min_length=1, max_length=8
    )


def backtest_asset(
    archive: Archive, first_window: datetime, whale_btc: float, whale_usd: float | None = None
) -> dg.AssetsDefinition:
    """The asset, by day from that of the first window on."""

    @dg.asset(
        key=keys.BACKTESTS,
        partitions_def=dg.DailyPartitionsDefinition(start_date=f"{first_window:%Y-%m-%d}"),
        deps=[keys.TRANSACTIONS_ARCHIVE, keys.FEATURES_ARCHIVE, dg.AssetDep(keys.ANOMALY_MODEL)],
        group_name="archive",
        code_version="1",
        owners=OWNERS,
        kinds={"parquet", "scikitlearn"},
        pool="backtests",
        retry_policy=RETRIES,
        # A run a day, which as many workers share as there are.
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        description="What each of the models finds unusual in an archived day, scored as the window lane does, and how"
        " they differ. Nothing is sent, and no table of transactions is read.\n\nKept in the archive under `backtests`;"
        " `txwatch backtest --days FROM..TO` sums up days.",
    )
    def backtests(
        context: dg.AssetExecutionContext,
        config: Tried,
        database: DatabaseResource,
        model_registry: ModelRegistryResource,
    ) -> dg.MaterializeResult:
        registry = model_registry.open()
        models = {model.version: model for model in map(registry.named, config.models)}
        day = date.fromisoformat(context.partition_key)
        with database.connect() as connection:
            detectors = day_detectors(connection, whale_btc, whale_usd)
            outcomes = day_outcomes(connection, archive, day, list(models.values()), detectors)
        result = together([outcomes])
        return dg.MaterializeResult(
            metadata={
                "transactions": result.transactions,
                "common": result.common(),
                **{f"alerts_of_{version}": len(alerts) for version, alerts in result.alerts.items()},
                "only_of_one": _difference(result),
            }
        )

    return backtests


def _difference(result: Backtest) -> dg.MarkdownMetadataValue:
    """The alerts that one of the models alone has, the highest scores first."""
    rows = [
        [
            version,
            f"`{score.txid}`",
            f"{score.score:.3f}",
            ", ".join(raising(r.kind for r in score.reasons) or ["forest"]),
        ]
        for version in result.alerts
        for score in sorted(result.only(version), key=lambda score: -score.score)[:MAX_SHOWN]
    ]
    return markdown_table(["version", "transaction", "score", "kinds"], rows)


backtest_job = dg.define_asset_job(
    "backtest",
    [keys.BACKTESTS],
    description="Tries models on archived days: launch it for days, and sum them up by `txwatch backtest --days`.",
)
