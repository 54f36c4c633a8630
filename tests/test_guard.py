"""What the guard lets through and what it refuses, on real sockets before a server that counts what reaches it."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.waiting import PATIENCE_SECONDS
from txwatch import guard
from txwatch.guard import MAX_HEADER_BYTES, MAX_TARGET_BYTES, PART_BYTES, BoundedH11, Guard

OWN_NAME = "watch.example"
OWN_NAME_AND_PORT = "proxy.example:8443"


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Counting:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                await send({"type": f"{(await receive())['type']}.complete"})
        self.reached.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "welcome"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"welcome"})


@contextmanager
def listening(app: Guard) -> Iterator[int]:
    """The app under uvicorn in this process. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def app() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def port(app: Counting) -> Iterator[int]:
    with listening(Guard(app, {OWN_NAME, OWN_NAME_AND_PORT}, health="/health")) as port:
        yield port


def ask(port: int, method: str = "GET", path: str = "/page", **headers: str) -> httpx.Response:
    """One request, with the port for `PORT` in the headers."""
    given = {name.replace("_", "-"): value.replace("PORT", str(port)) for name, value in headers.items()}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Accept": "*/*"}, timeout=PATIENCE_SECONDS
    ) as client:
        return client.request(method, path, headers=given)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:PORT",
        "localhost:PORT",
        "LOCALHOST",
        "127.8.9.10",
        "[::1]:PORT",
        OWN_NAME,
        f"{OWN_NAME}:8443",
        "proxy.example",
    ],
)
def test_loopback_and_names_of_the_setting_are_answered(port: int, host: str) -> None:
    assert ask(port, Host=host).text == "welcome"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        f"{OWN_NAME}.evil.example",
        f"not{OWN_NAME}",
        "10.0.0.7:PORT",
        "0.0.0.0:PORT",
        "2130706433",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost/",
        "localhost:PORT:80",
        "[::1",
        "testserver",
        "",
    ],
)
def test_another_host_is_refused_before_it_reaches_anything(app: Counting, port: int, host: str) -> None:
    app.reached.clear()
    answer = ask(port, Host=host)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "TXWATCH_ALLOWED_HOSTS" in answer.json()["detail"]
    assert app.reached == []


@pytest.mark.parametrize("allowed", ["*.example", "https://watch.example", "watch.example/", "bücher.example"])
def test_an_allowed_name_that_is_none_allows_nobody(app: Counting, allowed: str) -> None:
    app.reached.clear()
    with listening(Guard(app, {allowed}, health="/health")) as port:
        for host in ("a!.evil.example", "a~b.evil.example:80", "evil.example", ""):
            assert ask(port, Host=host).status_code == 403, host
    assert app.reached == []


def test_two_hosts_or_none_are_refused(app: Counting, port: int) -> None:
    app.reached.clear()
    for lines in ("Host: localhost\r\nHost: evil.example\r\n", ""):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(f"GET /page HTTP/1.0\r\n{lines}\r\n".encode())
            assert raw.recv(100).split()[1] in (b"400", b"403")
    assert app.reached == []


def test_a_supervisor_may_know_the_server_by_its_address_alone(port: int) -> None:
    assert ask(port, path="/health", Host="10.0.0.7:3000").text == "welcome"
    assert ask(port, path="/health", Host="10.0.0.7:3000", Origin="https://evil.example").status_code == 403
    assert ask(port, path="/health/", Host="10.0.0.7:3000").status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost",
        "file://",
        f"http://{OWN_NAME}.evil",
        "",
    ],
)
def test_a_page_of_another_origin_is_refused(app: Counting, port: int, method: str, origin: str) -> None:
    app.reached.clear()
    assert ask(port, method, Origin=origin).status_code == 403
    assert app.reached == []


def test_a_page_of_the_same_origin_may_ask_and_change(port: int) -> None:
    own = {"Origin": "http://127.0.0.1:PORT", "Sec_Fetch_Site": "same-origin"}
    assert ask(port, "POST", **own).text == "welcome"
    assert ask(port, "POST", Host="localhost:PORT", Origin="http://localhost:PORT").text == "welcome"
    assert ask(port, "POST", Host="localhost:PORT", Origin=f"https://{OWN_NAME}").text == "welcome", "a proxy before us"


@pytest.mark.parametrize("host", ["localhost:PORT", f"{OWN_NAME}:PORT", "proxy.example:PORT"])
def test_another_port_of_an_allowed_name_is_another_origin(app: Counting, port: int, host: str) -> None:
    own = [f"http://{OWN_NAME}", f"https://{OWN_NAME}", f"https://{OWN_NAME}:443", f"https://{OWN_NAME_AND_PORT}"]
    for origin in (*own, f"http://{host}"):
        assert ask(port, "POST", Host=host, Origin=origin).text == "welcome", origin
    app.reached.clear()
    foreign = [
        f"http://{OWN_NAME}:9999",
        f"https://{OWN_NAME}:80",
        "https://proxy.example",
        "http://proxy.example:9999",
    ]
    for origin in (*foreign, f"file://{host}", f"ftp://{OWN_NAME}", OWN_NAME):
        assert ask(port, "POST", Host=host, Origin=origin).status_code == 403, origin
    for origin in foreign:
        with (
            socket.create_connection(("127.0.0.1", port)) as reached,
            pytest.raises(InvalidStatus) as refusal,
            connect(f"ws://{host.replace('PORT', str(port))}/socket", sock=reached, origin=origin),  # type: ignore[arg-type]
        ):
            pass
        assert refusal.value.response.status_code == 403
    assert app.reached == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_a_link_from_another_site_shows_a_page_and_does_nothing_else(port: int, site: str) -> None:
    followed = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(port, **followed).text == "welcome"
    assert ask(port, "POST", **followed).status_code == 403
    assert ask(port, **followed | {"Sec_Fetch_Dest": "iframe"}).status_code == 403
    assert ask(port, **followed | {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}).status_code == 403
    assert ask(port, Sec_Fetch_Site=site).status_code == 403
    assert ask(port, Sec_Fetch_Site="none").text == "welcome"


@pytest.mark.parametrize("path", ["/graphql?query=mutation{a}", "/prefix/graphql?a=b&query=", "/%67raphql?%71uery={a}"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_graphql_is_asked_by_post(app: Counting, port: int, path: str, method: str) -> None:
    app.reached.clear()
    assert ask(port, method, path).status_code == 405
    assert app.reached == []
    assert ask(port, "POST", path).text == "welcome"
    assert ask(port, path="/graphql", Accept="text/html").text == "welcome"


def test_what_is_longer_than_any_of_ours_is_refused_before_it_reaches_anything(app: Counting, port: int) -> None:
    app.reached.clear()
    assert ask(port, path="/" + "a" * MAX_TARGET_BYTES).status_code == 414
    assert ask(port, path="/page?a=" + "%41" * (MAX_TARGET_BYTES // 3)).status_code == 414
    assert ask(port, X_Long="a" * MAX_HEADER_BYTES).status_code == 431
    assert app.reached == []


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ", b"GET / HTTP/1.1\r\n"])
def test_a_request_whose_head_has_no_end_is_ended(app: Counting, port: int, begin: bytes) -> None:
    app.reached.clear()
    more = 1_000 * (b"B: x\r\n" if begin.endswith(b"\n") else b"x")
    with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(ConnectionError):
        raw.sendall(begin + 5_000 * more)
    assert app.reached == []


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("earlier", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_connection_does_not_wait_for_ever_for_a_head(
    port: int, monkeypatch: pytest.MonkeyPatch, earlier: bytes, begin: bytes
) -> None:
    monkeypatch.setattr("txwatch.guard.HEAD_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as raw:
        if earlier:
            raw.sendall(earlier)
            answer = b""
            while b"welcome" not in answer:
                answer += raw.recv(1_000)
                assert answer
        raw.sendall(begin)
        while raw.recv(1_000):
            pass


def test_an_answer_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.guard.HEAD_SECONDS", 0.2)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(1)
        await Counting()(scope, receive, send)

    with listening(Guard(slow, health="/health")) as port:
        assert ask(port).text == "welcome"


async def take(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after the whole body."""
    if scope["type"] == "http":
        while (message := await receive()).get("more_body"):
            assert message["type"] == "http.request"
    await Counting()(scope, receive, send)


async def catch(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with 500 if the body cannot be had, as the applications behind the guard do."""
    try:
        await take(scope, receive, send)
    except Exception:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body", "body": b"it failed"})


@pytest.mark.parametrize("app", [take, catch])
def test_a_body_has_so_many_bytes_at_most_by_what_it_says_and_by_what_comes(app: ASGIApp) -> None:
    reached: list[int] = []

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            message = await receive()
            reached[-1] += len(message.get("body", b""))
            return message

        if scope["type"] == "http":
            reached.append(0)
        await app(scope, counted if scope["type"] == "http" else receive, send)

    with (
        listening(Guard(counting, health="/health", max_body_bytes=1_000)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client,
    ):
        for body, status in (([b"x" * 1_000], 200), ([b"x" * 1_001], 413), ([b"x" * 600] * 2, 413)):
            announced, streamed = client.post("/", content=b"".join(body)), client.post("/", content=iter(body))
            assert [announced.status_code, streamed.status_code] == [status, status]
            assert {answer.headers.get("connection") for answer in (announced, streamed)} == {
                "close" if status == 413 else None
            }
    assert len(reached) == 4, "what says that it is too large reaches nothing"
    assert max(reached) == 1_000


def test_what_was_answered_before_its_body_was_too_large_is_ended() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        await catch(scope, receive, send)

    with (
        listening(Guard(early, health="/health", max_body_bytes=1_000)) as port,
        pytest.raises(httpx.TransportError),
    ):
        httpx.post(f"http://127.0.0.1:{port}/", content=iter([b"x" * 1_001]), timeout=PATIENCE_SECONDS)


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def trickle(raw: socket.socket, part: bytes) -> bytes:
    """Send a part again and again until the server ends the connection. Gives its answer."""
    answer, until = b"", time.monotonic() + PATIENCE_SECONDS
    raw.settimeout(0.02)
    while True:
        assert time.monotonic() < until, "the connection is still open"
        try:
            raw.sendall(part)
            if not (came := raw.recv(10_000)):
                return answer
            answer += came
        except TimeoutError:
            pass
        except OSError:
            return answer


@pytest.mark.parametrize("head", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
@pytest.mark.parametrize("app", [take, Counting()], ids=["that waits for it", "that has answered"])
def test_a_body_that_trickles_does_not_hold_its_connection(
    monkeypatch: pytest.MonkeyPatch, app: ASGIApp, head: bytes
) -> None:
    monkeypatch.setattr(guard, "PART_SECONDS", 0.5)
    part = b"1\r\nx\r\n" if b"chunked" in head else b"x"
    with (
        listening(Guard(app, health="/health")) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as raw,
    ):
        raw.sendall(POST + head)
        trickle(raw, part)


def test_a_body_does_not_go_on_for_ever_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PART_SECONDS", 0.5)
    chunk = b"%x\r\n%s\r\n" % (PART_BYTES, PART_BYTES * b"x")
    with (
        listening(Guard(Counting(), health="/health")) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as raw,
    ):
        raw.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert trickle(raw, chunk).startswith(b"HTTP/1.1 200 ")


def test_a_body_may_wait_for_a_slow_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PART_SECONDS", 0.01)
    looked = 0
    look = BoundedH11._end_if_late

    def counted(protocol: BoundedH11) -> None:
        nonlocal looked
        looked += protocol.flow.read_paused
        if looked >= 2:
            monkeypatch.setattr(guard, "PART_SECONDS", 60)
        look(protocol)

    monkeypatch.setattr(BoundedH11, "_end_if_late", counted)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        while scope["type"] == "http" and looked < 2:
            await asyncio.sleep(0.01)
        await take(scope, receive, send)

    with listening(Guard(late, health="/health")) as port:
        body = 4_000_000 * b"x"
        answer = httpx.post(f"http://127.0.0.1:{port}/", content=body, timeout=60)
        assert answer.text == "welcome"


@pytest.mark.parametrize("parts", [1, 50_000])
def test_an_answer_that_nobody_takes_does_not_hold_its_connection(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(guard, "PART_SECONDS", 0.3)
    ended = threading.Event()

    async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Counting()(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(parts):
            await send({"type": "http.response.body", "body": (20_000_000 // parts + 1) * b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    with (
        listening(Guard(talkative, health="/health")) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as raw,
    ):
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(("taken", "stays"), [(PART_BYTES - 1, False), (PART_BYTES, True)])
def test_an_answer_that_is_taken_by_the_byte_does_not_hold_its_connection(taken: int, stays: bool) -> None:
    """`taken` is what the client took since it was looked at last."""
    aborted: list[bool] = []

    class Transport(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return 5

        def abort(self) -> None:
            aborted.append(True)

    loop = asyncio.new_event_loop()
    try:
        config = uvicorn.Config(Counting(), log_config=None)
        config.load()
        protocol = BoundedH11(config, ServerState(), {}, loop)
        protocol.transport = Transport()
        protocol._end_if_left(5 + taken)
    finally:
        loop.close()
    assert bool(aborted) is not stays


def test_the_last_of_an_answer_that_nobody_takes_does_not_hold_a_connection_that_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is less than that with which asyncio pauses writing."""
    monkeypatch.setattr(guard, "PART_SECONDS", 0.3)
    made, lost = BoundedH11.connection_made, BoundedH11.connection_lost
    transports, ended = list[asyncio.Transport](), threading.Event()

    def noted(protocol: BoundedH11, transport: asyncio.Transport) -> None:
        transports.append(transport)
        made(protocol, transport)

    def noted_end(protocol: BoundedH11, error: Exception | None) -> None:
        lost(protocol, error)
        ended.set()

    monkeypatch.setattr(BoundedH11, "connection_made", noted)
    monkeypatch.setattr(BoundedH11, "connection_lost", noted_end)

    async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Counting()(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while transports[-1].get_write_buffer_size() == 0:
            await send({"type": "http.response.body", "body": 10_000 * b"x", "more_body": True})
        await send({"type": "http.response.body"})

    with (
        listening(Guard(talkative, health="/health")) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as raw,
    ):
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert ended.wait(PATIENCE_SECONDS)


def test_a_head_as_long_as_it_may_be_is_answered_in_whatever_pieces_it_comes(port: int) -> None:
    target, long = "/" + "a" * (MAX_TARGET_BYTES - 1), "x" * (MAX_HEADER_BYTES - 100)
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nA: {long}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(head[:-1])
        ask(port)  # whose answer says that the server has read the first piece
        raw.sendall(head[-1:])
        assert raw.recv(100).startswith(b"HTTP/1.1 200 ")


def test_no_other_page_shows_ours_in_a_frame(port: int) -> None:
    assert ask(port).headers["x-frame-options"] == "SAMEORIGIN"


def test_a_websocket_opens_for_our_own_pages_and_for_programs_alone(app: Counting, port: int) -> None:
    url = f"ws://127.0.0.1:{port}/socket"
    for origin in (None, f"http://127.0.0.1:{port}"):
        with connect(url, origin=origin) as websocket:  # type: ignore[arg-type]
            assert websocket.recv() == "welcome"
    app.reached.clear()
    foreign = [{"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}]
    for headers in foreign:
        with pytest.raises(InvalidStatus) as refusal, connect(url, additional_headers=headers):
            pass
        assert refusal.value.response.status_code == 403
    with (
        socket.create_connection(("127.0.0.1", port)) as rebound,
        pytest.raises(InvalidStatus),
        connect("ws://evil.example/socket", sock=rebound),
    ):
        pass
    assert app.reached == []


def test_a_websocket_stays_open_however_long_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(guard, "PART_SECONDS", 0.5)

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await Counting()(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    with (
        listening(Guard(echo, health="/health")) as port,
        connect(f"ws://127.0.0.1:{port}/page") as websocket,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as later,
    ):
        assert later.recv(1) == b"", "the time is over"
        websocket.send("still here")
        assert websocket.recv(timeout=PATIENCE_SECONDS) == "still here"


def test_a_websocket_whose_client_takes_nothing_does_not_hold_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn closes one that answers no pings, but waits for ever until all that it sent is taken."""
    monkeypatch.setattr(guard, "PART_SECONDS", 0.3)
    ended, sent, parts = threading.Event(), 0, 1_000

    async def talkative(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        if scope["type"] == "lifespan":
            await Counting()(scope, receive, send)
        await receive()
        await send({"type": "websocket.accept"})
        with suppress(OSError):
            for _ in range(parts):
                await send({"type": "websocket.send", "text": 20_000 * "x"})
                sent += 1
        while (await receive())["type"] != "websocket.disconnect":
            pass
        ended.set()

    with (
        listening(Guard(talkative, health="/health")) as port,
        socket.create_connection(("127.0.0.1", port)) as raw,
    ):
        raw.sendall(UPGRADE)
        assert ended.wait(PATIENCE_SECONDS)
    assert sent < parts, "no more is kept for it than the operating system takes"
