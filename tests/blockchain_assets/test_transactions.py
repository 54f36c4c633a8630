"""`transactions` by hand: what the windows hold now, and whether the feed was heard and landed in time."""

from datetime import timedelta

import dagster as dg
import pytest

from tests.builders import transaction
from tests.conftest import History, Installation
from tests.materializing import checks, materialize, metadata_by_window
from txwatch.clock import utc_now, window_key
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.transactions import land_transactions


@pytest.fixture(scope="module")
def template(landed: str) -> str:
    """There is a simulated history."""
    return landed


def test_windows_are_counted_and_pass_their_checks(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    result = materialize(dagster_instance, "transactions", windows=history.windows)
    assert result.success
    with connect(installation.database_url) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM transactions").fetchone() or (0,)
    figures = metadata_by_window(result, "transactions")
    assert list(figures) == history.windows
    assert sum(of_window["dagster/partition_row_count"] for of_window in figures.values()) == rows
    assert len({of_window["dagster/partition_row_count"] for of_window in figures.values()}) > 1, "each its own"
    assert {(of_window["recovered_by_this_run"], of_window["gap_seconds"]) for of_window in figures.values()} == {
        (0, 0)
    }
    assert {name: check.passed for name, check in checks(result).items()} == {
        "no_feed_gap": True,
        "landed_within_a_second": True,
    }
    assert dagster_instance.get_materialized_partitions(dg.AssetKey("transactions")) == {
        window_key(window) for window in history.windows
    }


def test_a_gap_and_a_slow_landing_warn_in_the_windows_that_they_touch(
    installation: Installation, dagster_instance: dg.DagsterInstance, history: History
) -> None:
    gapped, slow, sound = history.windows[:3]
    seen_at = slow + timedelta(seconds=1)
    with connect(installation.database_url) as connection, connection.transaction():
        record_gaps(connection, [FeedGap(gapped, gapped + timedelta(seconds=90), "connection closed")])
        land_transactions(connection, [transaction(txid="f" * 64, seen_at=seen_at)])

    def outcome(*windows: int) -> dict[str, dg.AssetCheckEvaluation]:
        return checks(materialize(dagster_instance, "transactions", windows=[history.windows[i] for i in windows]))

    gap = outcome(0)["no_feed_gap"]
    assert (gap.passed, gap.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert gap.metadata["gap_seconds"].value == 90
    lag = outcome(1)["landed_within_a_second"]
    assert (lag.passed, lag.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert 0 < lag.metadata["lag_p99_ms"].value <= (utc_now() - seen_at) / timedelta(milliseconds=1)
    assert all(check.passed for check in outcome(2).values()), window_key(sound)
    assert not any(check.passed for check in outcome(0, 1, 2).values()), "a range is as good as its worst window"
