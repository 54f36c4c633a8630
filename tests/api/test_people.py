"""Named keys, what each may do, the record of changes, and cases, over real HTTP and a real Postgres."""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import Installation
from tests.databases import empty_tables
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.alerts.alert import Alert, record_move
from txwatch.alerts.cases import Step, take_step
from txwatch.alerts.conditions import Condition, State, condition_alerts
from txwatch.alerts.health import record_health
from txwatch.alerts.store import insert_alerts, read_precision
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.people.keys import BadKeyError, Scope, add_key, find_key, revoke_key
from txwatch.store.database import Connection, connect

WHALE, DUST = "a1" * 32, "b2" * 32
DAY = timedelta(days=1)


@dataclass
class Api:
    """The API, and its database."""

    connection: Connection
    url: str
    open: ExitStack

    def client(self, *scopes: Scope, name: str = "alice") -> httpx.Client:
        with self.connection.transaction():
            key = add_key(self.connection, name, scopes, utc_now())
        return self.with_key(key)

    def with_key(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return self.open.enter_context(httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS))

    def steps(self, key: str, *steps: dict[str, Any], by: httpx.Client) -> dict[str, Any]:
        for step in steps:
            answer = by.post(f"/v1/cases/{key}", json=step)
            assert answer.status_code == 200, answer.text
        detail: dict[str, Any] = answer.json()
        return detail


@pytest.fixture(params=[KEY])
def api(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Api]:
    changes = {"TXWATCH_API_KEY": request.param}
    with connect(installation.database_url) as connection:
        empty_tables(connection, "alerts, api_keys, changes")
        now = utc_now()
        alerts = [
            Alert(key, [kind], severity, [Reason(kind, "=1+1")], False, now - n * DAY, now, "3")
            for n, (key, kind, severity) in enumerate(
                [(WHALE, "whale", Severity.high), (DUST, "dust_storm", Severity.medium)]
            )
        ]
        insert_alerts(connection, alerts, ["42"])
        settings = settings_of(installation.database_url, installation.settings.home, **changes)
        with serving(settings) as url, ExitStack() as clients:
            yield Api(connection, url, clients)


def test_a_key_does_what_its_scopes_say_until_it_is_revoked(api: Api) -> None:
    manager, scorer = api.client("manage"), api.client("score", name="bob")
    note = {"action": "note", "text": "seen"}
    assert manager.post(f"/v1/cases/{WHALE}", json=note).status_code == 200
    refused = scorer.post(f"/v1/cases/{WHALE}", json=note)
    assert (refused.status_code, refused.json()["detail"]) == (403, "key:bob lacks the scope manage")
    assert manager.post("/v1/score", json={}).status_code == 403
    assert scorer.post("/v1/score", json={}).status_code == 422
    with api.connection.transaction():
        revoke_key(api.connection, "alice", utc_now())
    assert manager.post(f"/v1/cases/{WHALE}", json=note).status_code == 401
    assert api.with_key(KEY).post(f"/v1/cases/{WHALE}", json=note).status_code == 200, "the owner's goes on"


@pytest.mark.parametrize("api", [None], indirect=True, ids=["without TXWATCH_API_KEY"])
def test_without_the_owners_key_named_ones_write(api: Api) -> None:
    note = {"action": "note", "text": "seen"}
    nobody = api.with_key("txw_unknown").post(f"/v1/cases/{WHALE}", json=note)
    assert (nobody.status_code, "txwatch keys add" in nobody.json()["detail"]) == (403, True)
    assert api.client("manage").post(f"/v1/cases/{WHALE}", json=note).status_code == 200
    assert api.with_key("txw_unknown").post(f"/v1/cases/{WHALE}", json=note).status_code == 401


def test_two_keys_have_two_verdicts_and_each_replaces_its_own(api: Api) -> None:
    alice, bob = api.client("manage"), api.client("manage", name="bob")

    def judge(client: httpx.Client, verdict: str) -> tuple[int, int]:
        answer = client.post(f"/v1/alerts/{WHALE}/feedback", json={"verdict": verdict}).raise_for_status()
        alert = answer.json()["alert"]
        return alert["useful"], alert["noise"]

    assert judge(alice, "useful") == (1, 0)
    assert judge(bob, "noise") == (1, 1)
    assert judge(api.with_key(KEY), "noise") == (1, 2)
    assert judge(alice, "noise") == (0, 3)
    api.steps(WHALE, {"action": "close", "verdict": "useful"}, by=bob)
    assert judge(alice, "useful") == (2, 1), "closing a case is a verdict of the same person"


def test_no_metric_names_a_chat_by_its_id(installation: Installation) -> None:
    settings = settings_of(
        installation.database_url,
        installation.settings.home,
        TELEGRAM_BOT_TOKEN="1:a",
        TELEGRAM_CHAT_ID="77001,-77002,@anywhere",
    )
    with connect(installation.database_url) as connection, connection.transaction():
        empty_tables(connection, "health_checks, channels")
        record_move(connection, "-77002", "-10077002")
        refusing = {"77001": State.well, "-10077002": State.wrong, "@anywhere": State.well, "-77003": State.wrong}
        found = [Condition(f"chat_refuses:{name}", state) for name, state in {**refusing, "siem": State.well}.items()]
        record_health(connection, [*found, Condition("chat_refuses:-77004", State.well)], utc_now())
    with serving(settings) as url:
        metrics = httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).raise_for_status().text
    assert dict(re.findall(r'^txwatch_health_condition\{check="chat_refuses:(.*)"\} (\d)', metrics, re.MULTILINE)) == {
        "chat 1": "0",
        "chat 2": "1",
        "chat 3": "0",
        "another chat": "1",
        "siem": "0",
    }
    assert not re.search(r"7700\d|@anywhere", metrics)


def test_only_who_may_read_channels_is_told_which_chats_get_alerts(api: Api) -> None:
    conditions = [Condition(f"chat_refuses:{name}", State.wrong, f"{name} takes none") for name in ("-77001", "siem")]
    now = utc_now()
    with api.connection.transaction():
        empty_tables(api.connection, "health_checks")
        record_health(api.connection, conditions, now)
        insert_alerts(api.connection, condition_alerts(conditions, {}, now), ["42"])
        step = Step(WHALE, "telegram:Alice (5061)", "acknowledge", now)
        take_step(api.connection, step)
    [of_a_chat] = [a.alert_key for a in condition_alerts(conditions[:1], {}, now)]
    paths = ["/v1/health", "/v1/health/history", "/v1/alerts", "/v1/cases", "/v1/export/cases", f"/v1/cases/{WHALE}"]

    def told(client: httpx.Client) -> dict[str, list[str]]:
        answers = {path: client.get(path).raise_for_status().text for path in paths}
        with client.stream("GET", "/v1/stream?after=0&kind=system") as stream:
            events = []
            for line in stream.iter_lines():
                events.append(line)
                if "siem takes none" in line:
                    break
        answers["/v1/stream"] = "".join(events)
        assert all("siem" in answers[path] for path in [*paths[:5], "/v1/stream"])
        return {path: sorted(set(re.findall(r"-77001|5061|Alice", text))) for path, text in answers.items()}

    everything, people = ["-77001"], ["5061", "Alice"]
    managed = dict.fromkeys([*paths, "/v1/stream"], everything)
    managed |= {"/v1/cases": ["-77001", *people], "/v1/export/cases": ["-77001", *people], f"/v1/cases/{WHALE}": people}
    manager = api.client("manage")
    assert told(manager) == managed
    for path in (f"/v1/alerts/{of_a_chat}", f"/v1/cases/{of_a_chat}"):
        assert manager.get(path).status_code == 200
    nobody = {path: ["Alice"] if "/cases" in path else [] for path in managed}
    without_key = api.open.enter_context(httpx.Client(base_url=api.url, timeout=PATIENCE_SECONDS))
    readers = [api.client("read", "score", name="bob"), api.with_key("txw_unknown"), without_key]
    for reader in readers:
        assert told(reader) == nobody
        for path in (f"/v1/alerts/{of_a_chat}", f"/v1/cases/{of_a_chat}"):
            assert reader.get(path).status_code == 404


def test_keys_end_are_kept_as_hashes_and_names_are_not_given_twice(api: Api) -> None:
    now = utc_now()
    with api.connection.transaction():
        key = add_key(api.connection, "carol", ["read"], now, now + DAY)
    found = find_key(api.connection, key, now)
    assert found is not None
    assert (found.name, found.scopes) == ("carol", ["read"])
    assert find_key(api.connection, key, now + DAY) is None
    assert key not in str(api.connection.execute("SELECT * FROM api_keys").fetchall())
    for name in ("carol", "", "x" * 100, "nul\0", "owner"):
        with pytest.raises(BadKeyError), api.connection.transaction():
            add_key(api.connection, name, ["read"], now)


def test_a_private_api_is_read_with_a_key_alone(installation: Installation) -> None:
    settings = settings_of(installation.database_url, installation.settings.home, TXWATCH_API_PRIVATE=True)
    with connect(installation.database_url) as connection, serving(settings) as url, ExitStack() as clients:
        empty_tables(connection, "api_keys")
        api = Api(connection, url, clients)
        for path in ("/v1/alerts", "/v1/overview", "/v1/health", "/v1/health/history"):
            assert httpx.get(f"{url}{path}", timeout=PATIENCE_SECONDS).status_code == 401
        for path in ("/health/live", "/metrics"):
            assert httpx.get(f"{url}{path}", timeout=PATIENCE_SECONDS).status_code == 200
        open_to_all = {
            path
            for path, methods in httpx.get(f"{url}/openapi.json", timeout=PATIENCE_SECONDS).json()["paths"].items()
            if not all("security" in method for method in methods.values())
        }
        assert open_to_all == {"/health/live", "/health/ready", "/metrics"}
        assert api.client("manage").get("/v1/alerts").status_code == 403
        assert api.client("read", name="bob").get("/v1/alerts").status_code == 200
        assert api.with_key(KEY).get("/v1/alerts").status_code == 200


def test_a_case_goes_from_open_to_closed_and_all_that_was_done_is_kept(api: Api) -> None:
    alice, bob = api.client("manage"), api.client("manage", name="bob")
    detail = api.steps(
        WHALE,
        {"action": "acknowledge"},
        {"action": "assign", "assignee": "bob"},
        {"action": "note", "text": "exchange A moves to cold storage"},
        by=alice,
    )
    case = detail["case"]
    assert (case["state"], case["assignee"], case["notes"]) == ("acknowledged", "bob", 1)
    closed = api.steps(WHALE, {"action": "close", "verdict": "noise", "text": "known wallet"}, by=bob)
    case = closed["case"]
    assert (case["state"], case["verdict"], case["why"], case["changed_by"]) == (
        "closed",
        "noise",
        "known wallet",
        "key:bob",
    )
    assert [(e["who"], e["action"]) for e in closed["events"]] == [
        ("key:alice", "acknowledge"),
        ("key:alice", "assign"),
        ("key:alice", "note"),
        ("key:bob", "close"),
    ]
    (precision,) = read_precision(api.connection, utc_now() - DAY)
    assert (precision.kind, precision.judged, precision.useful) == ("whale", 1, 0), "the verdict is feedback"
    again = api.steps(WHALE, {"action": "reopen"}, by=alice)["case"]
    assert (again["state"], again["verdict"], again["why"]) == ("open", None, None)
    changes = alice.get("/v1/changes", params={"area": "cases"}).json()["items"]
    assert [(one["who"], one["subject"], one["action"], one["detail"]) for one in changes[:2]] == [
        ("key:alice", WHALE, "reopen", ""),
        ("key:bob", WHALE, "close", "noise known wallet"),
    ]
    (first,) = alice.get("/v1/changes", params={"limit": 1}).json()["items"]
    assert first == changes[0]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"action": "close"}, "close.verdict"),
        ({"action": "note"}, "note.text"),
        ({"action": "assign"}, "assign.assignee"),
        ({"action": "acknowledge", "assignee": "bob"}, "acknowledge.assignee"),
        ({"action": "reopen", "verdict": "useful"}, "reopen.verdict"),
        ({"action": "shred"}, "acknowledge"),
        ({"action": "note", "text": "x" * 2_001}, "2000"),
    ],
)
def test_a_step_that_is_not_whole_is_refused_in_words(api: Api, step: dict[str, Any], said: str) -> None:
    client = api.with_key(KEY)
    answer = client.post(f"/v1/cases/{WHALE}", json=step)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert client.post(f"/v1/cases/{'0' * 64}", json={"action": "acknowledge"}).status_code == 404
    assert client.get(f"/v1/cases/{WHALE}").json()["events"] == []


def test_cases_are_found_by_what_they_are_and_how_far_people_are(api: Api) -> None:
    client = api.with_key(KEY)
    api.steps(DUST, {"action": "close", "verdict": "useful"}, by=client)

    def found(**filters: str) -> list[str]:
        return [case["alert_key"] for case in client.get("/v1/cases", params=filters).json()["items"]]

    assert found() == [WHALE, DUST]
    assert found(state="open") == [WHALE]
    assert found(state="closed") == found(verdict="useful") == found(kind="dust_storm") == [DUST]
    assert found(verdict="noise") == found(assignee="bob") == []
    assert found(severity="high") == [WHALE]
    page = client.get("/v1/cases", params={"limit": 1}).json()
    assert found(cursor=page["next"]) == [DUST]


def test_cases_are_taken_away_with_their_types_and_without_formulas(api: Api, tmp_path: Path) -> None:
    client = api.with_key(KEY)
    why = '=HYPERLINK("http://evil.example";"look")'
    api.steps(WHALE, {"action": "close", "verdict": "useful", "text": why}, by=client)
    csv = client.get("/v1/export/cases")
    parquet = client.get("/v1/export/cases", params={"format": "parquet"})
    assert csv.headers["content-disposition"] == 'attachment; filename="cases.csv"'
    table = pd.read_csv(io.BytesIO(csv.content), parse_dates=["seen_at", "created_at", "changed_at"])
    assert str(table["seen_at"].dtype) == "datetime64[ns]"
    assert csv.content.startswith(b"\xef\xbb\xbf"), "Excel reads another encoding without it"
    assert table["alert_key"].tolist() == [WHALE, DUST]
    assert table["why"][0] == f"'{why}", "a spreadsheet takes it for text"
    rows = pq.read_table(io.BytesIO(parquet.content))
    assert str(rows.schema.field("seen_at").type) == "timestamp[us, tz=UTC]"
    seen = f"{rows.column('seen_at')[0].as_py():%Y-%m-%d %H:%M:%S}"
    assert csv.text.splitlines()[1].split(",")[3] == seen, "a spreadsheet takes it for a time"
    assert str(rows.schema.field("value_sat").type) == "int64"
    assert rows.column("kinds").to_pylist() == [["whale"], ["dust_storm"]]
    assert rows.column("why").to_pylist() == [why, None]
    (tmp_path / "cases.parquet").write_bytes(parquet.content)
    (tmp_path / "cases.csv").write_bytes(csv.content)
    both = {"alert_key": "VARCHAR", "notes": "BIGINT"}
    whole = {"seen_at": "TIMESTAMP WITH TIME ZONE", "value_sat": "BIGINT"}
    for file, types in (("cases.csv", both | {"seen_at": "TIMESTAMP"}), ("cases.parquet", both | whole)):
        told = duckdb.sql(f"SELECT * FROM '{tmp_path / file}'")  # noqa: S608 - a file of the test
        found = dict(zip(told.columns, map(str, told.types), strict=True))
        assert {name: found[name] for name in types} == types, file
        assert [row[told.columns.index("alert_key")] for row in told.fetchall()] == [WHALE, DUST]
