"""`drift_report`: the last hour against the champion's reference sample, as figures, as a check and as a page."""

from pathlib import Path

import dagster as dg
import httpx
import pytest

from tests.buckets import environment_of, s3_server, using_s3
from tests.conftest import Installation
from tests.materializing import checks, failure, materialize, metadata
from tests.serving import serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.places import S3Object
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


def test_a_report_in_s3_is_served_from_there_and_not_kept_twice(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    with s3_server("reports") as s3, using_s3(environment_of(s3) | {"TXWATCH_REPORTS": "s3://reports/drift"}):
        S3Object("reports", "drift/drift-1999-01-01-120000.html").write_bytes(b"old")
        result = materialize(dagster_instance, "drift_report")
        assert result.success
        facts = metadata(result, "drift_report")
        (stored,) = S3Object("reports", "drift").iterdir()  # and the old one is forgotten
        assert str(stored) == facts["report"]
        with connect(installation.database_url) as connection:
            html = connection.execute("SELECT html FROM drift_reports ORDER BY id DESC LIMIT 1").fetchone()
        assert html == (None,)
        reports = "s3://reports/drift"
        settings = settings_of(installation.database_url, installation.home, TXWATCH_REPORTS=reports)
        with serving(settings) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            newest = client.get("/v1/drift", params={"limit": 1}).json()["items"][0]
            assert facts["open"].startswith(f"GET /v1/drift/{newest['id']} ")
            page = client.get(f"/v1/drift/{newest['id']}")
            assert page.content == stored.read_bytes()
            assert b"model version 1" in page.content
            assert page.headers["content-security-policy"] == "sandbox allow-scripts"
            stored.unlink()
            gone = client.get(f"/v1/drift/{newest['id']}")
            assert (gone.status_code, gone.json()["detail"]) == (404, "the page of this report is not kept any more")
            s3.delete_bucket(Bucket="reports")
            away = client.get(f"/v1/drift/{newest['id']}")
            assert (away.status_code, away.json()["detail"]) == (503, "the page cannot be read just now")


def test_too_little_recent_traffic_is_said(installation: Installation, dagster_instance: dg.DagsterInstance) -> None:
    with connect(installation.database_url) as connection:
        connection.execute("DELETE FROM transaction_features WHERE txid > '05'")
    result = materialize(dagster_instance, "drift_report")
    assert not result.success
    assert "transactions of the last hour have features; a comparison wants 500." in failure(result)
