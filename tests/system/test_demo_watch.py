"""What a demo prints while it runs, and the line of JSON at its end, are those of its database."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from resources.telegram import TelegramResource
from tests.answering import in_a_thread
from tests.builders import transaction
from tests.databases import copied_database
from txwatch.alerts.store import raise_window_alerts
from txwatch.clock import utc_now, window_start
from txwatch.detection.drift_reports import record_drift_report
from txwatch.detection.reasons import Reason
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.score import Score
from txwatch.detection.score_windows import insert_scores
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.settings import Settings
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions
from txwatch.system import watch
from txwatch.system.watch import Watch

COUNTS = {"transactions": 73, "transaction_scores": 72}
BEGAN = utc_now()
FEE = Reason("fee_accident", "fee of 7.00 BTC")


class WebServer(BaseHTTPRequestHandler):
    """Answers what Dagster's web server does when it is asked how many windows it has recorded."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["variables"]["keys"]
        nodes = [
            {"assetKey": key, "partitionStats": {"numMaterialized": COUNTS[key["path"][0]]}}
            for key in asked
            if self.path == "/graphql"
        ]
        body = json.dumps({"data": {"assetNodes": nodes}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the output is the demo's."""


@pytest.fixture(autouse=True)
def web_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the demo looks for Dagster's; and no registry but that of its own database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with HTTPServer(("127.0.0.1", 0), WebServer) as server, in_a_thread(server):
        monkeypatch.setattr(watch, "DAGSTER_PORT", server.server_port)
        monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(watch, "STATUS_EVERY_SECONDS", 0.0)
        yield


@pytest.fixture
def url(server_url: str) -> str:
    """A database for one test."""
    return copied_database(server_url, "template_txwatch")


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    """A local one."""
    with TelegramServer(LocalTelegram()) as server:
        yield server


def go_through_every_stage(url: str, telegram: TelegramServer) -> None:
    """A live transaction comes in, is scored, and is alerted; its window is scored; drift is reported."""
    now = utc_now()
    tx = transaction(txid=f"{7:064x}", seen_at=now, source="feed")
    with connect(url) as connection, connection.transaction():
        land_transactions(connection, [tx])
        insert_scores(connection, [Score(tx.txid, now, 0.71, 0.6, True, [FEE])], "4", 1, lane="live")
        connection.execute(
            "INSERT INTO scored_windows (window_start, model_version) VALUES (%s, '4')", [window_start(now)]
        )
        record_drift_report(
            connection,
            computed_at=now,
            model_version="4",
            seen_from=now - timedelta(hours=1),
            seen_to=now,
            rows=500,
            share=0.25,
            drifted=False,
            features=[],
            html=None,
        )
        raise_window_alerts(connection, now, now + timedelta(seconds=1), ["1"], now)
    TelegramResource(token="1:a", chats=["1"], api_url=telegram.url).deliver(url, timedelta(seconds=30))


def test_it_says_what_was_found_and_ends_some_time_after_the_first_live_transaction(
    url: str, telegram: TelegramServer, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watch(Settings(), url, seconds=0.0, local_telegram=telegram.url, began_at=BEGAN)
    go_through_every_stage(url, telegram)
    watching(threading.Event())
    said = capsys.readouterr().err
    assert re.search(r"First live transaction \d+ s after the start\.", said)
    assert re.search(r"First alert \d+ s after the start\.", said)
    assert f"{7:064x}"[:16] + "… 0.710  fee of 7.00 BTC" in said
    assert "Telegram · chat 1" in said
    assert "live 1" in said
    assert "model 4" in said
    result = watching.result()
    assert (result["windows_sealed"], result["windows_scored"], result["live_windows_scored"]) == (73, 72, 1)
    assert (result["transactions"], result["anomalies"], result["model_version"]) == (1, 1, "4")
    assert (result["alerts_sent"], result["alerts_pending"], result["drift_share"]) == (1, 0, 0.25)
    assert watching.idle_stages(result) == []
    assert 0 <= result["first_live_s"] <= result["first_alert_s"]
    assert result["first_model_s"] is None


def test_what_labels_say_is_shown_as_it_is(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = utc_now()
    tx = transaction(txid=f"{8:064x}", seen_at=now, source="feed")
    reason = Reason("whale", "from [/b]Acme to [red]Kraken")
    with connect(url) as connection, connection.transaction():
        land_transactions(connection, [tx])
        insert_scores(connection, [Score(tx.txid, now, 0.71, 0.6, True, [reason])], "4", 1, lane="live")
    Watch(Settings(), url, seconds=0.0, began_at=BEGAN)(threading.Event())
    assert "from [/b]Acme to [red]Kraken" in capsys.readouterr().err


def test_a_registry_that_is_away_does_not_end_the_watching(
    url: str, telegram: TelegramServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = RuntimeError("http://user:very-secret@host/api failed with error code 503")
    answers = [away, away, away, "4"]

    def version(_: ModelRegistry) -> str | None:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, RuntimeError):
            raise answer
        return str(answer)

    monkeypatch.setattr(ModelRegistry, "champion_version", version)
    watching = Watch(Settings(), url, seconds=1.0, began_at=BEGAN)
    go_through_every_stage(url, telegram)
    watching(threading.Event())
    assert watching.result()["first_model_s"] is not None
    said = capsys.readouterr().err
    assert said.count("failed with error code 503") == 1
    assert "very-secret" not in said


@pytest.mark.parametrize("stage", ["windows_sealed", "windows_scored", "live_windows_scored", "alerts_sent"])
def test_a_stage_that_did_nothing_is_a_failure(url: str, telegram: TelegramServer, stage: str) -> None:
    watching = Watch(Settings(), url, seconds=0.0, began_at=BEGAN)
    go_through_every_stage(url, telegram)
    watching(threading.Event())
    assert watching.idle_stages(watching.result()) == []
    assert watching.idle_stages(watching.result() | {stage: 0}) == [stage]


def test_without_live_traffic_it_ends_with_the_processes_and_is_a_failure(url: str) -> None:
    ended = threading.Event()
    ended.set()
    watching = Watch(Settings(), url, seconds=0.0, began_at=BEGAN)
    watching(ended)
    result = watching.result()
    assert (result["transactions"], result["drift_share"]) == (0, None)
    assert {"transactions", "drift_share", "first_live_s"} <= set(watching.idle_stages(result))


def test_dagster_that_never_answers_is_said_and_the_result_printed_all_the_same(
    url: str, telegram: TelegramServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr(watch, "DAGSTER_PORT", closed.getsockname()[1])
    watching = Watch(Settings(), url, seconds=0.0, began_at=BEGAN)
    go_through_every_stage(url, telegram)
    watching(threading.Event())
    assert "Dagster does not say which windows it has" in capsys.readouterr().err
    assert watching.idle_stages(watching.result()) == ["windows_sealed", "windows_scored"]
