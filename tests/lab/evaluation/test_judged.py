"""What people said of alerts reaches the figures and the gate, on a database with a known answer."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.databases import empty_tables
from tests.features.window_lane import materialize
from tests.modelling import START, model
from txwatch.alerts.alert import Alert
from txwatch.alerts.store import insert_alerts, record_verdict
from txwatch.clock import WINDOW, window_range
from txwatch.detection.gate import Feedback
from txwatch.detection.kinds import Severity
from txwatch.detection.model import Model
from txwatch.detection.reasons import Reason
from txwatch.detection.score_windows import score_windows
from txwatch.features.store import read_named_features
from txwatch.lab.evaluation import commands
from txwatch.lab.evaluation.examination import JudgedAlerts, examine, feedback_figures, read_held_out, read_judged
from txwatch.lab.evaluation.replay import simulate
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions

END = START + 6 * WINDOW
LATER = END + timedelta(hours=1)


@pytest.fixture(scope="module")
def trained() -> Model:
    return model(minutes=20, trees=50)


@pytest.fixture(scope="module")
def landed(database_url: str, trained: Model) -> str:
    """Half an hour of traffic with features and scores, and no alert yet."""
    traffic = simulate("2024-03", seed=3, start=START, duration=END - START, plants_per_hour={})
    with connect(database_url) as connection:
        with connection.transaction():
            land_transactions(connection, traffic.transactions)
        materialize(connection, START, END)
        score_windows(connection, window_range(START, END), trained, whale_btc=500)
    return database_url


@pytest.fixture
def connection(landed: str) -> Iterator[Connection]:
    with connect(landed) as connection:
        empty_tables(connection, "alerts")
        yield connection


def raise_alert(connection: Connection, txid: str, *kinds: str, version: str = "1") -> None:
    (row,) = connection.execute("SELECT seen_at FROM transactions WHERE txid = %s", [txid]).fetchall() or [(START,)]
    reasons = [Reason(kind, "so it was") for kind in kinds]
    alert = Alert(txid, list(kinds), Severity.medium, reasons, False, row[0], LATER, version)
    assert insert_alerts(connection, [alert], [])


def by_score(connection: Connection, order: str) -> list[str]:
    """The txids of the transactions that only the forest scored, the highest (DESC) or the lowest (ASC) first."""
    rows = connection.execute(
        "SELECT txid FROM transaction_scores WHERE (score >= threshold) = (%s = 'DESC') ORDER BY score", [order]
    ).fetchall()
    txids = [txid for (txid,) in rows]
    return txids[::-1] if order == "DESC" else txids


def judge(connection: Connection, txids: list[str], verdict: Any) -> None:
    for txid in txids:
        raise_alert(connection, txid, "forest")
        assert record_verdict(connection, txid, verdict, LATER, "key:owner")


def test_a_model_is_shown_what_it_makes_of_the_judged_transactions(connection: Connection, trained: Model) -> None:
    """It finds 2 of 3 useful ones and 1 of 3 noisy ones, as was chosen by its own scores."""
    above, below = by_score(connection, "DESC"), by_score(connection, "ASC")
    judge(connection, [*above[:2], below[0]], "useful")
    judge(connection, [above[2], *below[1:3]], "noise")
    raise_alert(connection, below[3], "whale")
    record_verdict(connection, below[3], "useful", LATER, "key:owner")
    raise_alert(connection, "ab" * 32, "forest")  # its transaction was dropped with its day
    record_verdict(connection, "ab" * 32, "useful", LATER, "key:owner")
    judged = read_judged(connection)
    assert sum(len(window.transactions) for window in judged.windows) == 6
    held_out = read_held_out(connection, START, END)
    (result,) = examine([trained], held_out, whale_btc=500, judged=judged)
    assert result.feedback == Feedback(useful=3, useful_found=2, noise=3, noise_found=1)
    assert result.figures["judged_useful_found"] == 2
    answers = judged.answers
    assert answers.useful.tolist() == [txid in {*above[:2], below[0]} for txid in answers.txids]
    assert sorted(answers.txids) == sorted([*above[:3], *below[:3]])
    stored = read_named_features(connection, {tx.txid: tx.seen_at for w in judged.windows for tx in w.transactions})
    np.testing.assert_array_equal(answers.features, [stored[txid] for txid in answers.txids])


def test_judged_transactions_are_scored_as_they_were_in_their_windows(connection: Connection, trained: Model) -> None:
    """All that the forest found is found again, and nothing else: features and context are those of the window."""
    judge(connection, above := by_score(connection, "DESC"), "useful")
    judge(connection, below := by_score(connection, "ASC")[-50:], "noise")
    (result,) = examine([trained], read_held_out(connection, START, END), whale_btc=500, judged=read_judged(connection))
    assert result.feedback == Feedback(len(above), len(above), len(below), 0)


def test_without_an_answer_nothing_is_judged(connection: Connection) -> None:
    raise_alert(connection, by_score(connection, "DESC")[0], "forest")
    assert read_judged(connection) == JudgedAlerts()


def test_the_figures_name_the_precision_of_each_detector_and_version(connection: Connection, landed: str) -> None:
    txids = by_score(connection, "ASC")
    for i, txid in enumerate(txids[:5]):
        raise_alert(connection, txid, *(("whale", "forest") if i < 2 else ("forest",)), version="1" if i < 4 else "2")
        record_verdict(connection, txid, "useful" if i < 3 else "noise", LATER, "key:owner")
    figures = feedback_figures(landed)
    assert figures["note"] is None
    assert {(f["kind"], f["model_version"]): (f["judged"], f["useful"], f["precision"]) for f in figures["judged"]} == {
        ("forest", "1"): (4, 3, 0.75),
        ("forest", "2"): (1, 0, 0.0),
        ("whale", "1"): (2, 2, 1.0),
    }
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.usefixtures("connection")
def test_the_figures_say_why_there_are_none(landed: str) -> None:
    assert feedback_figures(landed) == {"judged": [], "note": "nobody has judged an alert yet"}
    assert "DATABASE_URL is not set" in feedback_figures(None)["note"]
    nowhere = feedback_figures("postgresql://nobody@127.0.0.1:1/none")
    assert nowhere["judged"] == []
    assert "could not be read" in nowhere["note"]


def test_people_see_the_precision_as_a_table(
    connection: Connection, landed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(connection, by_score(connection, "DESC")[:1], "useful")
    commands._print_feedback(feedback_figures(landed))
    commands._print_feedback(feedback_figures(None))
    table, note = capsys.readouterr().out.rsplit("No precision", 1)
    assert "1.000" in table
    assert "DATABASE_URL is not set" in note
