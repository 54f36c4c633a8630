"""Nothing is written or scored without the key, and no secret leaves: not in answers, logs, metrics or pages."""

import asyncio
import io
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from tests.populated import CHAT, Populated
from tests.serving import KEY, TOKEN, serving, settings_of
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.api.app import NotLoopbackError, create_app, serve_api
from txwatch.api.middleware import LoopbackOnly
from txwatch.logs import configure_logging

PASSWORD = "opensesame-in-the-url"
READS = {"GET", "HEAD", "OPTIONS"}


def operations(client: httpx.Client) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def concrete(path: str) -> str:
    for name, value in (
        ("txid", "0" * 64),
        ("alert_key", "0" * 64),
        ("version", "1"),
        ("report_id", "1"),
        ("name", "siem"),
    ):
        path = path.replace(f"{{{name}}}", value)
    return path


def test_no_write_route_answers_without_the_key(client: httpx.Client) -> None:
    writes = [(method, path) for method, path, _ in operations(client) if method not in READS]
    assert len(writes) == 14
    for method, path in writes:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": KEY}):
            answer = client.request(method, concrete(path), headers=headers, json={})
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_write_route_says_so_in_its_description(client: httpx.Client) -> None:
    for method, path, operation in operations(client):
        # Who gets alerts is private, and who changed what.
        keyed = method not in READS or path.startswith(("/v1/channels", "/v1/changes"))
        assert bool(operation.get("security")) == keyed, (method, path)
        assert operation["summary"], path
        assert {"400", "422", "500"} <= set(operation["responses"]), path


def test_without_a_key_writes_are_refused_and_only_loopback_is_answered(populated: Populated) -> None:
    settings = settings_of(populated.database_url, populated.home, TXWATCH_API_KEY=None)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        assert client.get("/v1/alerts").status_code == 200
        assert client.post("/v1/models/rollback", headers={"Authorization": "Bearer anything"}).status_code == 403
        foreign = client.get("/v1/alerts", headers={"Host": "evil.example"})
        assert foreign.status_code == 403
        assert "Host" in foreign.json()["detail"]


def test_another_name_is_answered_with_a_key_and_by_the_setting_alone(database_url: str, tmp_path: Path) -> None:
    names = {"TXWATCH_ALLOWED_HOSTS": "api, watch.example"}
    for key, status in ((KEY, 200), (None, 403)):
        settings = settings_of(database_url, tmp_path, TXWATCH_API_KEY=key, **names)
        with serving(settings) as address, httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
            assert client.get("/v1/alerts", headers={"Host": "api:8000"}).status_code == status
            assert client.get("/v1/alerts", headers={"Host": "evil.example"}).status_code == 403
            assert client.get("/v1/alerts").status_code == 200


def test_a_page_of_another_origin_is_refused_with_the_key_too(address: str) -> None:
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_SECONDS) as client:
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            for method, path, _ in operations(client):
                answer = client.request(method, concrete(path), headers=headers)
                assert answer.status_code == 403, (method, path, headers)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def _refused(client: str, type_: str) -> int:
    statuses: list[int] = []

    async def app(*_: Any) -> None:
        statuses.append(200)

    async def send(message: Any) -> None:
        if message["type"].endswith("http.response.start"):
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": type_, "method": "GET", "path": "/", "headers": [(b"host", b"localhost")], "client": (client, 1)}
    scope |= {"query_string": b"", "server": ("localhost", 80), "scheme": "http"}
    await LoopbackOnly(app)(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("type_", ["http", "websocket"])
@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("", 403)])
def test_loopback_is_where_a_request_comes_from(type_: str, client: str, status: int) -> None:
    assert asyncio.run(_refused(client, type_)) == status


def test_other_hosts_need_a_key_to_be_served(populated: Populated) -> None:
    with pytest.raises(NotLoopbackError, match="TXWATCH_API_KEY"):
        serve_api(settings_of(populated.database_url, populated.home, TXWATCH_API_KEY=None), "0.0.0.0", 1)


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    yield stream
    logging.getLogger().handlers = [h for h in logging.getLogger().handlers if h.get_name() != "txwatch"]
    structlog.reset_defaults()


def test_no_secret_is_in_any_answer_or_log(populated: Populated, logs: io.StringIO) -> None:
    # The embedded server asks for no password, so any will do.
    url = populated.database_url.replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in url
    settings = settings_of(url, populated.home)
    configure_logging(settings, process="api", stream=logs)
    secrets = (KEY, TOKEN, PASSWORD, CHAT)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        paths = [path for method, path, _ in operations(client) if method == "GET" and "stream" not in path]
        answers = [client.get(path) for path in ("/openapi.json", "/docs", *map(concrete, paths))]
        alert = client.get("/v1/alerts").json()["items"][0]["alert_key"]
        answers.append(client.get(f"/v1/alerts/{alert}"))
        answers.append(client.get(f"/v1/transactions/{alert}"))
        answers.append(client.post("/v1/score", headers={"Authorization": f"Bearer {KEY}"}, json={"hash": KEY[:5]}))
        for answer in answers:
            assert answer.status_code < 500 or answer.request.url.path == "/health/ready", answer.text
            for secret in secrets:
                assert secret not in answer.text, answer.request.url
                assert secret not in str(answer.headers), answer.request.url
    assert logs.getvalue().count('"event": "request"') >= len(answers)
    for secret in secrets:
        assert secret not in logs.getvalue()


@pytest.mark.parametrize("of", ["a", "a.", "1:", "a://", "Bearer ", "password=", "%2F", "%00", "..%2f"])
def test_what_is_long_costs_nothing_and_is_not_repeated(
    database_url: str, tmp_path: Path, logs: io.StringIO, of: str
) -> None:
    """Each line of the log is searched for secrets: 32,000 characters once took that 13 seconds."""
    settings = settings_of(database_url, tmp_path)
    configure_logging(settings, process="api", stream=logs)
    key = {"Authorization": f"Bearer {KEY}"}
    with serving(settings) as address, httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        tried = [
            (client.get("/" + of * (32_000 // len(of))), 414),
            (client.get("/v1/alerts?cursor=" + of * (32_000 // len(of))), 414),
            (client.get("/" + of * (2_000 // len(of))), 404),
            (client.request("A" * 32_000, "/v1/alerts"), 405),
            (client.get("/v1/alerts", headers={"Authorization": (of * 40_000)[:40_000]}), 431),
            (client.get("/v1/alerts", headers={"X-Request-ID": (of * 20_000)[:20_000]}), 200),
            (client.post(f"/v1/alerts/{'0' * 64}/feedback", headers=key, json={of * 20_000: "noise"}), 422),
            (client.post("/v1/score", headers=key, json={"hash": of * 20_000, "inputs": of * 20_000}), 422),
            (client.get("/v1/stream", headers={"Last-Event-ID": (of * 20_000)[:20_000]}), 422),
        ]
    assert [answer.status_code for answer, _ in tried] == [status for _, status in tried]
    for answer, _ in tried:
        assert len(answer.content) < 2_000
    assert max(map(len, logs.getvalue().splitlines())) < 2_000


def test_bodies_are_limited_by_header_and_by_what_comes(populated: Populated) -> None:
    key = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    settings = settings_of(populated.database_url, populated.home)
    with (
        serving(settings, max_body_bytes=1_000) as address,
        httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client,
    ):
        announced = client.post("/v1/score", headers=key, content=b"x" * 1_001)
        streamed = client.post("/v1/score", headers=key, content=iter([b"x" * 600, b"x" * 600]))
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_key_is_asked_for_before_the_body_is_read(client: httpx.Client) -> None:
    """Else whoever has none could fill the memory with bodies."""
    head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
    writes = [concrete(path) for method, path, _ in operations(client) if method not in READS]
    for path in writes:
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=PATIENCE_SECONDS) as raw:
            raw.sendall(f"POST {path} HTTP/1.1\r\n{head}".encode())
            assert raw.recv(12) == b"HTTP/1.1 401", path


def test_a_client_that_leaves_within_its_body_is_no_failure_of_the_server(database_url: str, tmp_path: Path) -> None:
    head = f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n"
    with serving(settings_of(database_url, tmp_path)) as address, httpx.Client(base_url=address, timeout=60) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as raw:
            raw.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())

        def statuses() -> list[str]:
            counted = r'txwatch_http_requests_total{method="POST",route="/v1/score",status="(\d+)"} 1.0'
            return re.findall(counted, client.get("/metrics").text)

        wait_until(statuses, "the request has ended")
        assert statuses() == ["499"]


def test_nothing_connects_when_the_app_is_made(populated: Populated) -> None:
    create_app(settings_of("postgresql://nobody@127.0.0.1:1/nothing", populated.home))


def test_a_database_that_is_away_is_told_as_such(populated: Populated) -> None:
    settings = settings_of("postgresql://nobody@127.0.0.1:1/nothing", populated.home)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        assert client.get("/health/live").status_code == 200
        assert "txwatch_database_up 0.0" in client.get("/metrics").text
        away = client.get("/health/ready")
        assert away.status_code == 503
        assert away.json()["detail"] == "the database cannot be reached just now"
