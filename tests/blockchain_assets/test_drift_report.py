"""`drift_report`: the last hour against the champion's reference sample, as figures, as a check and as a page."""

from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import Installation
from tests.materializing import checks, failure, materialize, metadata
from txwatch.store.database import connect


@pytest.fixture(scope="module")
def template(championed: str) -> str:
    """There is a champion, trained on most of the last hour."""
    return championed


def test_like_traffic_has_not_drifted_and_has_a_page(dagster_instance: dg.DagsterInstance) -> None:
    result = materialize(dagster_instance, "drift_report")
    assert result.success
    facts = metadata(result, "drift_report")
    assert (facts["drifted"], facts["drift_share"], facts["model_version"]) == (False, 0.0, "1")
    page = Path(facts["report"])
    assert "The traffic is like that of the training" in page.read_text(encoding="utf-8")
    assert facts["open"] == page.as_uri()
    assert page.parent.name == "reports"
    assert checks(result)["traffic_is_like_training"].passed


def test_other_fee_rates_have_drifted_and_the_check_warns(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with connect(installation.database_url) as connection:
        connection.execute("UPDATE transaction_features SET fee_rate = fee_rate * 1.5, fee_sat = fee_sat * 1.5")
    result = materialize(dagster_instance, "drift_report")
    facts = metadata(result, "drift_report")
    assert facts["drifted"] is True
    assert 0 < facts["drift_share"] < 1
    assert "| fee_rate |" in facts["features"].splitlines()[2]
    check = checks(result)["traffic_is_like_training"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN


def test_too_little_recent_traffic_is_said(installation: Installation, dagster_instance: dg.DagsterInstance) -> None:
    with connect(installation.database_url) as connection:
        connection.execute("DELETE FROM transaction_features WHERE txid > '05'")
    result = materialize(dagster_instance, "drift_report")
    assert not result.success
    assert "transactions of the last hour have features; a comparison wants 500." in failure(result)
