"""What the API answers over a populated database, from a real server."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.populated import USD_PRICE, Populated
from txwatch.clock import utc_now
from txwatch.lab.simulator.traffic import Simulator
from txwatch.labels.store import unwatch, watch
from txwatch.store.database import connect

LISTS = (
    "/v1/transactions",
    "/v1/anomalies",
    "/v1/whales",
    "/v1/whales/history",
    "/v1/alerts",
    "/v1/drift",
    "/v1/feed/gaps",
    "/v1/feed/refused",
    "/v1/feed/blocks",
    "/v1/health/history",
)


def newest(client: httpx.Client, path: str) -> dict[str, object]:
    item: dict[str, object] = client.get(path, params={"limit": 1}).json()["items"][0]
    return item


@pytest.mark.parametrize("path", LISTS)
def test_a_list_has_items_and_pages_through_all_of_them_once(client: httpx.Client, path: str) -> None:
    whole = client.get(path, params={"limit": 500}).json()
    assert whole["items"]
    paged: list[object] = []
    cursor = None
    while True:
        parameters = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        page = client.get(path, params=parameters).raise_for_status().json()
        paged += page["items"]
        cursor = page["next"]
        if cursor is None or len(paged) >= 140:
            break
    assert paged == whole["items"][: len(paged)]
    assert cursor is not None or len(paged) == len(whole["items"])


def worth_of(item: dict[str, Any], sat: str, usd: str) -> bool:
    """Whether the amount in USD is that in satoshi by the price, or both are unknown."""
    if item["usd_price"] is None or item[sat] is None:
        return item[usd] is None
    return item["usd_price"] == USD_PRICE and item[usd] == pytest.approx(item[sat] / 1e8 * USD_PRICE, abs=0.01)


@pytest.mark.parametrize(
    ("path", "amounts"),
    [
        ("/v1/transactions", [("value_sat", "value_usd")]),
        ("/v1/anomalies", [("value_sat", "value_usd")]),
        ("/v1/whales", [("value_sat", "value_usd"), ("moved_sat", "moved_usd")]),
        ("/v1/whales/history", [("moved_sat", "moved_usd")]),
        ("/v1/alerts", [("value_sat", "value_usd")]),
    ],
)
def test_amounts_are_told_in_usd_by_the_price_that_was_known_then(
    client: httpx.Client, populated: Populated, path: str, amounts: list[tuple[str, str]]
) -> None:
    with connect(populated.database_url) as connection:
        first = connection.execute("SELECT min(noted_at) FROM usd_prices").fetchone()
    assert first is not None
    since, around = first[0], {"limit": 500}
    known = client.get(path, params=around | {"since": since.isoformat()}).json()["items"]
    unknown = client.get(path, params=around | {"until": since.isoformat()}).json()["items"]
    assert known
    assert unknown
    assert {item["usd_price"] for item in known} == {USD_PRICE}
    assert {item["usd_price"] for item in unknown} == {None}
    assert all(worth_of(item, sat, usd) for item in known + unknown for sat, usd in amounts)
    if path == "/v1/alerts":
        assert all(since <= datetime.fromisoformat(item["usd_price_at"]) for item in known)
        assert {item["usd_price_at"] for item in unknown} == {None}


def test_one_transaction_and_one_alert_tell_usd_as_their_lists_do(client: httpx.Client) -> None:
    alert = newest(client, "/v1/alerts")
    found = client.get(f"/v1/transactions/{alert['alert_key']}").raise_for_status().json()
    assert found["usd_price"] == alert["usd_price"] == found["alert"]["alert"]["usd_price"] == USD_PRICE
    assert found["value_usd"] == alert["value_usd"] == found["alert"]["alert"]["value_usd"]


def test_a_transaction_is_explained(client: httpx.Client, populated: Populated) -> None:
    txid = client.get("/v1/anomalies", params={"kind": "forest", "limit": 1}).json()["items"][0]["txid"]
    found = client.get(f"/v1/transactions/{txid}").raise_for_status().json()
    assert {score["model_version"] for score in found["scores"]} == {populated.champion, populated.challenger}
    assert found["alert"]["alert"]["alert_key"] == txid
    assert all(0 <= f["percentile"] <= 100 for f in found["features"] if f["percentile"] is not None)
    flow = client.get(f"/v1/transactions/{txid}/waterfall").raise_for_status().json()
    assert flow["rest"] + sum(step["lowers"] for step in flow["steps"]) == pytest.approx(flow["score"])
    assert all(step["lowers"] > 0 for step in flow["steps"])


def test_the_nearest_neighbours_are_told_with_their_differences(client: httpx.Client, populated: Populated) -> None:
    txid = client.get("/v1/anomalies", params={"kind": "forest", "limit": 1}).json()["items"][0]["txid"]
    found = client.get(f"/v1/transactions/{txid}/neighbours").raise_for_status().json()
    nearest = found["nearest"]
    assert (found["model_version"], len(nearest)) == (populated.champion, 8)
    assert found["among"] > 1_000
    assert txid not in {one["txid"] for one in nearest}
    distances = [one["distance"] for one in nearest]
    assert distances == sorted(distances)
    assert distances[-1] > 0
    assert all(one["differs"] for one in nearest if one["distance"] > 0)
    seen_at = client.get(f"/v1/transactions/{txid}").json()["seen_at"]
    assert all(one["seen_at"] <= seen_at for one in nearest), "none that came later"
    assert client.get(f"/v1/transactions/{'0' * 64}/neighbours").status_code == 404


def test_coins_say_what_is_likely_change(client: httpx.Client) -> None:
    items = client.get("/v1/whales", params={"limit": 20}).raise_for_status().json()["items"]
    for item in items:
        found = client.get(f"/v1/transactions/{item['txid']}").raise_for_status().json()
        assert {coin["likely_change"] for coin in found["inputs"]} == {None}
        moved = sum(coin["value"] for coin in found["outputs"] if not coin["likely_change"])
        assert moved == item["moved_sat"]


def test_the_way_to_a_score_ends_at_the_score_that_was_stored(client: httpx.Client) -> None:
    items = client.get("/v1/anomalies", params={"limit": 25}).json()["items"]
    flows = [client.get(f"/v1/transactions/{item['txid']}/waterfall").raise_for_status().json() for item in items]
    assert [(f["score"], f["threshold"]) for f in flows] == [
        (pytest.approx(item["score"]), pytest.approx(item["threshold"])) for item in items
    ]
    explained = [flow for flow in flows if flow["accounted_for"]]
    assert explained, "a detector found something"
    for flow in explained:
        assert flow["found"]
        assert not {step["feature"] for step in flow["steps"]} & set(flow["accounted_for"])


def test_sources_are_compared_and_a_transaction_has_its_life(client: httpx.Client) -> None:
    node, feed = client.get("/v1/feed/sources").raise_for_status().json()
    assert (node["source"], feed["source"]) == ("bitcoin-core", "blockchain.info")
    assert feed["share_1h"] > 0.99
    assert node["first_1h"] == 0
    assert node["alone_1h"] < 30  # at the edge of the hour, told by the other one before it
    assert 0.9 < node["share_1h"] < 1
    assert (node["behind_p50_ms"], node["completeness_1d"], node["explained_1d"]) == (1_000, 0.95, 0.04)
    txid = newest(client, "/v1/transactions")["txid"]
    life = client.get(f"/v1/transactions/{txid}").raise_for_status().json()["life"]
    assert {(event["event"], event["source"]) for event in life} >= {("seen", "blockchain.info")}


def test_filters_narrow_a_list(client: httpx.Client) -> None:
    middle = datetime.fromisoformat(str(newest(client, "/v1/transactions")["seen_at"])) - timedelta(minutes=30)
    before = client.get("/v1/transactions", params={"until": middle.isoformat(), "limit": 5}).json()["items"]
    assert all(datetime.fromisoformat(tx["seen_at"]) < middle for tx in before)
    rich = client.get("/v1/transactions", params={"min_value_sat": 10**9, "limit": 20}).json()["items"]
    assert rich
    assert all(tx["value_sat"] >= 10**9 for tx in rich)
    whales = client.get("/v1/whales", params={"min_moved_sat": 10**11, "limit": 50}).json()["items"]
    assert whales
    assert all(move["moved_sat"] >= 10**11 for move in whales)
    for severity in ("high", "critical"):
        alerts = client.get("/v1/alerts", params={"severity": severity}).json()["items"]
        assert {alert["severity"] for alert in alerts} == {severity}
    dead = client.get("/v1/alerts", params={"state": "dead"}).json()["items"]
    assert [alert["states"] for alert in dead] == [["dead"]]


def test_the_challenger_in_shadow_raises_nothing_in_the_list(client: httpx.Client, populated: Populated) -> None:
    items = client.get("/v1/anomalies", params={"limit": 500}).json()["items"]
    assert {item["model_version"] for item in items} == {populated.champion}
    assert len({item["txid"] for item in items}) == len(items)


def test_readiness_is_what_was_looked_at(client: httpx.Client) -> None:
    answer = client.get("/health/ready")
    found = {check["name"]: check for check in answer.json()["checks"]}
    assert answer.status_code == (200 if all(c["ok"] for c in found.values() if c["required"]) else 503)
    assert found["database"]["ok"]
    assert found["model"]["ok"]
    assert "test worker" in found["lease"]["detail"]
    assert client.get("/health/live").json() == {"status": "alive"}


def test_posted_transactions_are_scored_alone_as_in_a_batch(keyed: httpx.Client) -> None:
    simulator = Simulator("2024-03", seed=9, start=utc_now(), rate=50)
    bodies = [m.message for m in simulator.until(utc_now() + timedelta(seconds=20))][:200]
    posted = [json.loads(body)["x"] for body in bodies]
    batch = keyed.post("/v1/score/batch", json={"transactions": posted}).raise_for_status().json()
    assert [result["txid"] for result in batch["results"]] == [x["hash"] for x in posted]
    for x, result in list(zip(posted, batch["results"], strict=True))[:5]:
        assert keyed.post("/v1/score", json=x).raise_for_status().json()["result"] == result
        assert worth_of(result, "value_sat", "value_usd")
        assert result["usd_price"] == USD_PRICE


def test_one_malformed_transaction_does_not_fail_the_batch(keyed: httpx.Client) -> None:
    example = keyed.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    good = example["application/json"]["example"]
    answer = keyed.post("/v1/score/batch", json={"transactions": [{"hash": "x"}, good]}).json()
    assert [refused["index"] for refused in answer["refused"]] == [0]
    assert len(answer["results"]) == 1


def test_more_transactions_than_may_wait_are_told_to_come_again(
    keyed: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = keyed.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    good = example["application/json"]["example"]
    monkeypatch.setattr("txwatch.api.routes.scoring.MAX_WAITING", 1)
    answer = keyed.post("/v1/score/batch", json={"transactions": [good, good]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    for _ in range(3):
        assert keyed.post("/v1/score", json=good).status_code == 200


def test_a_posted_transaction_that_pays_a_watched_address_says_so(keyed: httpx.Client, populated: Populated) -> None:
    example = keyed.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    body = example["application/json"]["example"]
    paid = body["out"][0]["addr"]
    with connect(populated.database_url) as connection, connection.transaction():
        watch(connection, paid, "a suspect", utc_now())
    try:
        result = keyed.post("/v1/score", json=body).raise_for_status().json()["result"]
    finally:
        with connect(populated.database_url) as connection, connection.transaction():
            unwatch(connection, paid, utc_now())
    assert result["is_anomaly"]
    assert "watch_listed" in {reason["kind"] for reason in result["reasons"]}


def test_models_are_listed_compared_promoted_and_rolled_back(keyed: httpx.Client, populated: Populated) -> None:
    versions = {v["version"]: v for v in keyed.get("/v1/models").raise_for_status().json()}
    assert versions[populated.champion]["aliases"] == ["champion"]
    pair = {"a": populated.champion, "b": populated.challenger}
    compared = keyed.get("/v1/models/comparison", params=pair).raise_for_status().json()["agreement"]
    assert compared["transactions"] > 10_000
    assert compared["correlation"] > 0.9

    example = keyed.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    body = example["application/json"]["example"]
    assert keyed.post(f"/v1/models/{populated.challenger}/promote").json() == {"champion": populated.challenger}
    assert keyed.post("/v1/score", json=body).json()["model_version"] == populated.challenger
    assert keyed.post("/v1/models/rollback").json() == {"champion": populated.champion}
    assert keyed.post("/v1/score", json=body).json()["model_version"] == populated.champion
    assert keyed.post("/v1/models/999/promote").status_code == 404


def test_a_later_verdict_replaces_an_earlier_one(keyed: httpx.Client) -> None:
    key = newest(keyed, "/v1/alerts")["alert_key"]
    for verdict, useful, noise in (("useful", 1, 0), ("noise", 0, 1)):
        answer = keyed.post(f"/v1/alerts/{key}/feedback", json={"verdict": verdict}).raise_for_status().json()
        assert (answer["alert"]["useful"], answer["alert"]["noise"]) == (useful, noise)
    assert keyed.get("/v1/precision").json()


def test_a_drift_report_is_a_page_in_a_sandbox(client: httpx.Client) -> None:
    report = newest(client, "/v1/drift")
    page = client.get(f"/v1/drift/{report['id']}")
    assert "Drift report" in page.text
    assert page.headers["content-security-policy"] == "sandbox allow-scripts"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        (f"/v1/transactions/{'0' * 64}", 404),
        ("/v1/transactions/23f6", 422),
        ("/v1/feed/gaps?state=forgotten", 422),
        ("/v1/health/history?name=%00", 422),
        ("/v1/transactions?limit=0", 422),
        ("/v1/transactions?cursor=abcd", 400),
        ("/v1/alerts?since=yesterday", 422),
        ("/v1/drift/999", 404),
    ],
)
def test_errors_are_problem_details(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["instance"] == path.partition("?")[0]
    assert problem["request_id"] == answer.headers["x-request-id"] == "mine-1"


def test_metrics_follow_the_conventions(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    names = [line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE txwatch_")]
    assert len(names) > 20
    for name, kind in names:
        assert name.endswith("_total") == (kind == "counter"), name
        assert not name.endswith(("_ms", "_count", "_percent")), name


def test_many_clients_at_once_are_all_answered(client: httpx.Client) -> None:
    """More than there are threads: those that wait for a connection must not keep out those that have one."""

    def ask(_: int) -> int:
        return client.get("/v1/transactions", params={"limit": 1}).status_code

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(ask, range(400))) == {200}


def test_the_reference_is_served_with_its_assets_and_asks_nobody_else(client: httpx.Client) -> None:
    assert client.get("/").headers["location"] == "/docs"
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    addresses = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", page.text)
    found = {first or second for first, second in addresses}
    assert {Path(address).name for address in found} >= {"swagger-ui-bundle.js", "swagger-ui.css", "openapi.json"}
    for address in found:
        assert address.startswith("/"), address
        client.get(address).raise_for_status()
    assert "://" not in page.text
    assert '"validatorUrl": null' in page.text


def test_whales_of_the_past_are_filtered_and_summed_up(client: httpx.Client) -> None:
    whales = client.get("/v1/whales/history", params={"limit": 500}).raise_for_status().json()["items"]
    totals = client.get("/v1/whales/totals").raise_for_status().json()
    assert sum(flow["count"] for flow in totals["flows"]) == len(whales)
    assert sum(flow["moved_sat"] for flow in totals["flows"]) == sum(whale["moved_sat"] for whale in whales)
    largest = max(whale["moved_sat"] for whale in whales if whale["flow"] != "internal_move")
    assert totals["largest"][0]["moved_sat"] == largest
    narrowed = {"flow": "unknown", "min_moved_sat": largest}
    for whale in client.get("/v1/whales/history", params=narrowed).raise_for_status().json()["items"]:
        assert (whale["flow"], whale["moved_sat"]) >= ("unknown", largest)
    nobody = client.get("/v1/whales/history", params={"entity": "nobody at all"}).raise_for_status().json()
    assert nobody == {"items": [], "next": None}


def test_features_of_a_transaction_are_those_that_models_see(client: httpx.Client) -> None:
    txid = client.get("/v1/anomalies", params={"kind": "forest", "limit": 1}).json()["items"][0]["txid"]
    served = client.get(f"/v1/transactions/{txid}/features").raise_for_status().json()
    shown = client.get(f"/v1/transactions/{txid}").raise_for_status().json()["features"]
    assert served["features"] == {feature["name"]: feature["value"] for feature in shown}
    assert served["network"]["version"] >= 1
    assert client.get(f"/v1/transactions/{txid}/features").json() == served
    assert client.get(f"/v1/transactions/{'0' * 64}/features").status_code == 404


@pytest.mark.parametrize("state", ["open", "ended", "recovered", "lost"])
def test_gaps_can_be_asked_for_by_each_state(client: httpx.Client, state: str) -> None:
    gaps = client.get("/v1/feed/gaps", params={"state": state}).raise_for_status().json()["items"]
    assert {gap["state"] for gap in gaps} <= {state}


@pytest.mark.parametrize("name", ["chat_refuses:-1001", "chat_refuses:@channel", "run_failed:score_windows"])
def test_the_history_of_each_check_can_be_asked_for(client: httpx.Client, name: str) -> None:
    client.get("/v1/health/history", params={"name": name}).raise_for_status()
