"""Rules by the API: checked, tried on the past, added, switched and remembered, as by the command line."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.databases import empty_tables
from tests.populated import Populated
from txwatch.clock import utc_now
from txwatch.rules.document import read_plain
from txwatch.rules.dry_run import dry_run
from txwatch.rules.parse import parse_rule
from txwatch.store.database import connect

RULE: dict[str, Any] = {
    "name": "large",
    "text": "Large transfer",
    "severity": "high",
    "alerts_per_hour": 5,
    "when": {"all": ["moved_sat >= 1 BTC", "kind != coinjoin"]},
}


@pytest.fixture(autouse=True)
def _no_rules(populated: Populated) -> Iterator[None]:
    yield
    with connect(populated.database_url) as connection:
        empty_tables(connection, "rules, rule_matches")


def test_a_rule_is_added_switched_and_remembered(keyed: httpx.Client) -> None:
    added = keyed.post("/v1/rules", json=RULE).raise_for_status().json()
    assert (added["version"], added["mode"], added["changed_by"], added["document"]["when"]) == (
        1,
        "off",
        "key:owner",
        RULE["when"],
    )
    assert keyed.post("/v1/rules", json=RULE).json() == added, "the same again changes nothing"
    switched = keyed.post("/v1/rules/large/mode", json={"mode": "active"}).raise_for_status().json()
    assert (switched["version"], switched["mode"]) == (2, "active")
    assert keyed.get("/v1/rules/large").json() == switched
    assert keyed.get("/v1/rules/large/history").json() == [switched, added]
    counts = {"alerts": 0, "tested": 0, "held_back": 0}
    assert keyed.get("/v1/rules").json() == [{"rule": switched, "last_day": counts}]
    assert keyed.get("/v1/alerts", params={"kind": "rule:large"}).json()["items"] == []


def test_a_wrong_rule_is_told_each_place_and_word(keyed: httpx.Client) -> None:
    wrong = RULE | {"severity": "hihg", "when": {"all": ["moved >= 1 BTC", "kind = wale"]}}
    for path in "/v1/rules", "/v1/rule/check", "/v1/rule/dry-run":
        answer = keyed.post(path, json=wrong)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"where": "body.severity", "message": "there is no severity `hihg`, did you mean `high`?"},
            {
                "where": "body.when.all[0]",
                "message": "there is nothing called `moved` to compare, did you mean `moved_sat`?",
            },
            {"where": "body.when.all[1]", "message": "there is no kind `wale`, did you mean `whale`?"},
        ]
    for body in [], None, {}, {"a": "\ud800"}, {"name": ["x"] * 100_000}:
        assert keyed.post("/v1/rule/check", content=json.dumps(body)).status_code == 422
    checked = keyed.post("/v1/rule/check", json=RULE).json()
    assert checked == {"name": "large", "severity": "high", "alerts_per_hour": 5}


def test_the_past_is_tried_as_by_the_command(keyed: httpx.Client, populated: Populated) -> None:
    tried = keyed.post("/v1/rule/dry-run", params={"days": 1}, json=RULE).raise_for_status().json()
    with connect(populated.database_url) as connection:
        run = dry_run(connection, parse_rule(read_plain(RULE)), utc_now(), 1)
    assert tried["run"]["matches"] > 0
    assert (tried["run"]["matches"], tried["run"]["alerts"]) == (run.matches, run.alerts)
    assert tried["matches_per_hour"] == pytest.approx(run.matches_per_hour)
    assert [one["txid"] for one in tried["run"]["largest"]] == [one.txid for one in run.largest]
    assert keyed.get("/v1/rules").json() == [], "nothing is written"


def test_reading_needs_no_key_and_changing_does(client: httpx.Client, keyed: httpx.Client) -> None:
    keyed.post("/v1/rules", json=RULE).raise_for_status()
    assert client.get("/v1/rules/large").status_code == 200
    for path in "/v1/rules", "/v1/rule/check", "/v1/rule/dry-run", "/v1/rules/large/mode":
        assert client.post(path, json=RULE).status_code == 401
    for path in "/v1/rules/nobody", "/v1/rules/nobody/history":
        assert client.get(path).json()["detail"] == "There is no rule nobody."
    assert keyed.post("/v1/rules/nobody/mode", json={"mode": "off"}).status_code == 404
    assert keyed.post("/v1/rules/large/mode", json={"mode": "on"}).status_code == 422


def test_what_a_path_does_not_allow_names_all_that_it_does(client: httpx.Client) -> None:
    answer = client.delete("/v1/rules")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert client.put("/v1/alerts").headers["Allow"] == "GET"
