"""`drift_report`: whether recent traffic is still like the traffic that the champion was trained on."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from blockchain_assets import keys
from blockchain_assets.columns import table_metadata
from blockchain_assets.windows import OWNERS, check_result, markdown_table
from resources.database import DatabaseResource
from resources.model_registry import ModelRegistryResource
from txwatch.clock import utc_now
from txwatch.detection.drift import MIN_ROWS, Reference
from txwatch.detection.drift_reports import DriftPage, DriftPages, drift_page, record_drift_page, record_drift_report
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.store import read_recent_features

RECENT = timedelta(hours=1)
LIKE_TRAINING = dg.AssetCheckSpec(
    "traffic_is_like_training",
    asset=keys.DRIFT_REPORT,
    description="No feature of the last hour is further from the champion's training data than its limit.",
)

AFTER_JUDGEMENT = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    .allow(dg.AssetSelection.assets(keys.CHAMPION_MODEL))
    .since_last_handled()
    & ~dg.AutomationCondition.in_progress()
).with_label("champion_model was judged")


def drift_report_asset(pages: DriftPages) -> dg.AssetsDefinition:
    """The asset, which keeps the pages of its reports in `pages`."""

    @dg.asset(
        key=keys.DRIFT_REPORT,
        deps=[keys.TRANSACTION_FEATURES, keys.CHAMPION_MODEL],
        group_name="models",
        owners=OWNERS,
        kinds={"evidently"},
        code_version="2",
        metadata=table_metadata("drift_reports"),
        check_specs=[LIKE_TRAINING],
        # At once for a new champion, then by the schedule.
        automation_condition=AFTER_JUDGEMENT,
        description="A row is one comparison of the last hour's features with the champion's reference sample: a"
        " decision whose false alarms are controlled, and Evidently's page.\n\nMade every hour, and at once for a new"
        " champion. Kept for TXWATCH_RETENTION_DAYS.",
    )
    def drift_report(
        context: dg.AssetExecutionContext, database: DatabaseResource, model_registry: ModelRegistryResource
    ) -> dg.MaterializeResult:
        registry = model_registry.open()
        version = registry.champion_version()
        if version is None:
            raise dg.Failure("There is no champion to compare with: materialize champion_model.", allow_retries=False)
        now = utc_now()
        with database.connect() as connection:
            recent = read_recent_features(connection, now - RECENT)
        if len(recent) < MIN_ROWS:
            raise dg.Failure(
                f"{len(recent)} transactions of the last hour have features; a comparison wants {MIN_ROWS}.",
                allow_retries=False,
            )
        sample = registry.reference(version)
        reference = sample[list(FEATURE_NAMES)].to_numpy("float64")
        seen = sample["seen_at"].to_numpy("datetime64[us]").astype(np.float64) / 1e6
        drift = Reference(reference, seen).compare(recent, span=RECENT)
        with database.connect() as connection, connection.transaction():
            report_id = record_drift_report(
                connection,
                computed_at=now,
                model_version=version,
                seen_from=now - RECENT,
                seen_to=now,
                rows=drift.rows,
                share=drift.share,
                drifted=drift.drifted,
                features=drift.features,
            )
        context.log.info(f"{drift.share:.0%} of the features have drifted.")
        try:
            page = drift_page(drift, recent, reference, model_version=version, at=now)
            shown = _keep(pages, database, report_id, now, page)
        except Exception as error:  # a page that cannot be drawn or stored must not cost the figures
            context.log.exception("The figures are kept, but their page could not be made.")
            shown = {"page_failed": f"{type(error).__name__}: {error}"}
        return dg.MaterializeResult(
            metadata={
                "drifted": drift.drifted,
                "drift_share": drift.share,
                "model_version": version,
                "rows": drift.rows,
                "reference_rows": drift.reference_rows,
                "features": markdown_table(
                    ["feature", "distance", "limit", ""],
                    [
                        (f.feature, f"{f.distance:.3f}", f"{f.limit:.3f}", "drifted" if f.drifted else "")
                        for f in drift.features
                    ],
                ),
                **shown,
            },
            check_results=[check_result(LIKE_TRAINING, not drift.drifted, {"drift_share": drift.share})],
        )

    return drift_report


def _keep(
    pages: DriftPages, database: DatabaseResource, report_id: int, at: datetime, page: DriftPage
) -> dict[str, Any]:
    """Store the page of a report, and return metadata that says where it is."""
    where = pages.write(at, page.html)
    if not pages.in_store:
        with database.connect() as connection:
            record_drift_page(connection, report_id, page.html)
    pages.forget(at)
    return {
        "evidently_drift_share": page.evidently_share,
        "not_compared_by_evidently": ", ".join(page.left_out) or "nothing",
        "report": dg.MetadataValue.path(str(where)),
        "open": dg.MetadataValue.url(where.as_uri())
        if isinstance(where, Path)
        else f"GET /v1/drift/{report_id} of the API, or the dashboard",
    }


drift_job = dg.define_asset_job(
    "drift", [keys.DRIFT_REPORT], description="Compares the last hour with what the champion was trained on."
)
