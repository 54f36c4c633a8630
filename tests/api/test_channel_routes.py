"""Channels by the API: added, looked at, tried, disabled and enabled, without ever giving back what is secret."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.alerts import alert
from tests.channels.receiver import answer, receiver
from tests.databases import empty_tables
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.alerts.store import insert_alerts
from txwatch.store.database import connect

SECRET = "a secret of thirty-two letters, or more"
ROUTE = "/v1/channels"


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, channels, channel_requests")
    settings = settings_of(database_url, tmp_path, TXWATCH_WEBHOOK_PRIVATE="true")
    headers = {"Authorization": f"Bearer {KEY}"}
    with serving(settings) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, headers=headers) as client:
        yield client


def test_a_webhook_is_added_tried_disabled_and_enabled(api: httpx.Client) -> None:
    with receiver(answer(204), answer(500)) as hook:
        wanted = {"name": "siem", "url": hook.url, "secret": SECRET, "min_severity": "high", "rules": ["big"]}
        added = api.post(ROUTE, json=wanted)
        assert (added.status_code, added.json()["shown_as"]) == (201, f"http://127.0.0.1:{hook.port}/…")
        assert added.json()["kinds"] == ["rule:big"]
        assert api.post(f"{ROUTE}/siem/test").json() == {"arrived": True, "reason": None}
        assert api.post(f"{ROUTE}/siem/test").json() == {"arrived": False, "reason": "it answered 500"}
        assert all(post.signed_at(SECRET) for post in hook.posts)
        assert api.post(f"{ROUTE}/siem/disable").json()["state"] == "off"
        assert api.post(f"{ROUTE}/siem/enable").json()["state"] == "on"
        answers = [api.get(ROUTE), api.get(f"{ROUTE}/siem"), added]
        assert not any(hidden in one.text for hidden in (SECRET, "of-somebody") for one in answers)
        assert [one["channel"] for one in answers[0].json()] == ["siem"]


def test_nothing_is_changed_without_a_record_of_who_did(api: httpx.Client, database_url: str) -> None:
    wanted = {"name": "siem", "url": "https://example.org/hook", "secret": SECRET}
    with connect(database_url) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no record'; END$$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        try:
            assert api.post(ROUTE, json=wanted).status_code == 500
            assert api.get(ROUTE).json() == []
            connection.execute("ALTER TABLE changes DISABLE TRIGGER refuse")
            assert api.post(ROUTE, json=wanted).status_code == 201
            connection.execute("ALTER TABLE changes ENABLE TRIGGER refuse")
            assert api.post(f"{ROUTE}/siem/disable").status_code == 500
            assert api.get(f"{ROUTE}/siem").json()["state"] == "on"
        finally:
            connection.execute("DROP FUNCTION refuse CASCADE")


def test_the_newest_deliveries_of_a_channel_are_told_to_who_has_the_key(api: httpx.Client, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO channels (channel) VALUES ('42'), ('-7')")
        with connection.transaction():
            insert_alerts(connection, [alert(n) for n in range(25)], ["42", "-7"])
        connection.execute("UPDATE alert_deliveries SET state = 'dead', reason = 'no' WHERE channel = '42'")
    told = api.get(f"{ROUTE}/42/deliveries").json()
    assert len(told) == 20
    assert [one["seen_at"] for one in told] == sorted((one["seen_at"] for one in told), reverse=True)
    assert {(one["state"], one["reason"], *one["kinds"]) for one in told} == {("dead", "no", "whale")}
    assert {one["state"] for one in api.get(f"{ROUTE}/-7/deliveries").json()} == {"pending"}
    assert api.get(f"{ROUTE}/43/deliveries").status_code == 404
    api.headers.pop("Authorization")
    assert api.get(f"{ROUTE}/42/deliveries").status_code == 401


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"secret": None}, 422, "a webhook needs a secret"),
        ({"secret": "short"}, 422, "at least 32"),
        ({"url": "https://user:hunter2@example.org"}, 422, "without a user"),
        ({"url": "nothing://hunter2", "secret": None}, 422, "apprise cannot read"),
        ({"url": "json://example.org"}, 422, "a secret is for a webhook"),
        ({"kinds": ["wale"]}, 422, "no kind is named 'wale'"),
        ({"quiet_hours": "22:00-07:00 Nowhere/At_All"}, 422, "no time zone"),
        ({"name": "42"}, 422, "pattern"),
        ({"digest_minutes": 30}, 422, "digests are for people"),
    ],
)
def test_what_cannot_be_is_a_problem_without_what_is_secret(
    api: httpx.Client, changes: dict[str, Any], status: int, said: str
) -> None:
    refused = api.post(ROUTE, json={"name": "siem", "url": "https://example.org/x", "secret": SECRET} | changes)
    assert (refused.status_code, said in refused.json()["detail"]) == (status, True), refused.text
    assert "hunter2" not in refused.text
    assert api.get(ROUTE).json() == []


def test_what_is_not_there_is_not_found_and_nothing_is_told_without_the_key(api: httpx.Client) -> None:
    asked = [("GET", "/x"), ("POST", "/x/test"), ("POST", "/x/enable"), ("POST", "/x/disable")]
    assert {api.request(method, ROUTE + path).status_code for method, path in asked} == {404}
    api.headers.pop("Authorization")
    assert api.get(ROUTE).status_code == 401


def test_a_path_of_two_routes_names_the_methods_of_both(api: httpx.Client) -> None:
    refused = api.delete(ROUTE)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert api.delete(f"{ROUTE}/siem").headers["allow"] == "GET"


def test_the_events_of_webhooks_are_described(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    operation = document["webhooks"]["alert"]["post"]
    assert {p["name"] for p in operation["parameters"]} == {
        "X-Txwatch-Signature",
        "Idempotency-Key",
        "X-Txwatch-Event",
    }
    schema = document["components"]["schemas"]["AlertEvent"]
    assert set(schema["properties"]) == {"version", "event", "revision", "alert"}
    assert schema["properties"]["event"]["enum"] == ["alert.created", "alert.updated", "alert.closed", "channel.test"]
