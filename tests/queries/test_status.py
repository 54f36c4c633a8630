"""The numbers of `txwatch status` are those of the tables."""

from datetime import timedelta

from tests.populated import Populated
from txwatch.clock import WINDOW, utc_now
from txwatch.queries.status import read_status
from txwatch.store.database import connect


def test_windows_anomalies_and_the_model_are_those_that_were_scored(populated: Populated) -> None:
    with connect(populated.database_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT date_bin('5 minutes', seen_at, 'epoch') FROM transaction_scores ORDER BY 1"
        ).fetchall()
        scored = [window for (window,) in rows]
        [(anomalies,)] = connection.execute(
            "SELECT count(*) FROM transaction_scores WHERE is_anomaly AND model_version = %s AND txid NOT IN"
            " (SELECT txid FROM campaign_transactions WHERE alert_key <> txid)",
            [populated.champion],
        )
        now = utc_now()
        status = read_status(connection, now, scored[-3] + timedelta(minutes=1))
        of_one_window = read_status(connection, now, scored[-1])
        of_none = read_status(connection, now, scored[-1] + WINDOW)
    assert (status.windows_scored, status.live_windows_scored) == (len(scored), 3)
    assert (of_one_window.live_windows_scored, of_none.live_windows_scored) == (1, 0)
    assert status.anomalies == anomalies > 0
    assert status.model_version == populated.champion, "and not the one that scores in shadow"
