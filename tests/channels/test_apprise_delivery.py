"""Services of apprise against real servers on loopback: e-mail by SMTP, and several that speak HTTP in their ways."""

import asyncio
import io
import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import structlog

from tests.builders import T0, transaction
from tests.channels.mail_server import mail_server
from tests.channels.outbox import HOUR, MINUTE, SECOND, Outbox, alert, outbox
from tests.channels.receiver import NEVER, Post, answer, receiver
from txwatch.channels.addresses import PrivateAddressError, public_alone
from txwatch.channels.apprise import Notifier, _service
from txwatch.channels.channel import Target, terms
from txwatch.channels.outcomes import ChannelRefused, NotSent, Sent, Unknown
from txwatch.channels.store import list_channels, read_one
from txwatch.detection.kinds import Severity
from txwatch.logs import configure_logging
from txwatch.settings import Settings
from txwatch.store.transactions import land_transactions

KEY = alert(1).alert_key
TITLE, REASON = "🐋 Whale", "• reason 1"
TAKEN = answer(200, "Content-Type: application/json", body=b"{}")


@pytest.fixture
def box(database_url: str) -> Iterator[Outbox]:
    with outbox(database_url) as one:
        yield one


@contextmanager
def logging_to(log: io.StringIO, home: Path) -> Iterator[None]:
    """The log of a worker goes there for the block."""
    root = logging.getLogger()
    before = root.level
    configure_logging(Settings(_env_file=None, TXWATCH_HOME=home), process="worker", stream=log)
    try:
        yield
    finally:
        root.handlers = [handler for handler in root.handlers if handler.get_name() != "txwatch"]
        root.setLevel(before)
        structlog.reset_defaults()


def of_json(post: Post, title: str, body: str) -> tuple[str, str]:
    told = post.told
    return told[title], told[body]


@pytest.mark.parametrize(
    ("url", "path", "read"),
    [
        ("json://user:hunter2@{}/in", "/in", lambda post: of_json(post, "title", "message")),
        (
            "form://{}/in",
            "/in",
            lambda post: tuple(parse_qs(post.body.decode())[name][0] for name in ("title", "message")),
        ),
        ("xml://{}/in", "/in", lambda post: (TITLE, post.body.decode()) if TITLE in post.body.decode() else ("", "")),
        ("mmost://{}/3ccdd113474722377935511fc85d3dd4", "/hooks/3ccdd113474722377935511fc85d3dd4", None),
        ("gotify://{}/abcdefghijklmno", "/message", lambda post: of_json(post, "title", "message")),
        ("ntfy://{}/whales", "/", lambda post: of_json(post, "title", "message")),
        ("matrix://hunter2@{}/?mode=slack", "/api/v1/matrix/hook/hunter2", None),
        ("rocket://hunter2/hunter3@{}/%23whales", "/hooks/hunter2/hunter3", None),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_service_gets_the_alert_in_its_own_form(
    box: Outbox, url: str, path: str, read: Callable[[Post], tuple[str, str]] | None
) -> None:
    with receiver(TAKEN, TAKEN) as server:
        box.add("team", url.format(f"127.0.0.1:{server.port}"), kind="apprise")
        box.raise_alerts(alert(1))
        assert box.drain() == Counter(sent=1)
        (post,) = server.posts
        assert post.path.partition("?")[0] == path
        if read is None:
            said = json.loads(post.body) if post.body.startswith(b"{") else {"all": post.body.decode()}
            assert "Whale" in json.dumps(said, ensure_ascii=False)
            assert "reason 1" in json.dumps(said, ensure_ascii=False)
        else:
            title, body = read(post)
            assert title == TITLE
            assert REASON in body
    assert box.states() == {KEY: "sent"}


def test_an_alert_comes_by_mail_and_one_that_was_not_taken_comes_again(box: Outbox) -> None:
    with box.connection.transaction():
        land_transactions(box.connection, [transaction(txid=KEY)])
    with mail_server() as mailbox:
        url = f"mailto://127.0.0.1:{mailbox.port}?from=txwatch@example.org&to=team@example.org"
        box.add("mail", url, kind="apprise")
        mailbox.refusal = "451 try again later"
        box.raise_alerts(alert(1))
        assert box.drain(timedelta(0)) == Counter(notsent=1)
        assert box.states() == {KEY: "pending"}
        mailbox.refusal = ""
        box.now += MINUTE
        assert box.drain() == Counter(sent=1)
        (message,) = mailbox.received
    assert (message["From"], message["To"]) == ("txwatch@example.org", "team@example.org")
    assert message["Subject"].startswith(f"{TITLE} · ")
    body = message.get_body(("html", "plain"))
    assert body is not None
    text = body.get_content()
    assert "reason 1" in text
    assert f"https://mempool.space/tx/{KEY}" in text
    assert "<br" in text or "\n" in text


def test_a_storm_and_what_came_late_is_a_digest_and_updates_are_not_told(box: Outbox) -> None:
    with receiver(*[TAKEN] * 20) as server:
        box.add("team", f"json://127.0.0.1:{server.port}", kind="apprise")
        box.raise_alerts(alert(1), alert(2, late=True))
        box.drain()
        box.tell(KEY, "kind:forest")
        assert box.drain() == Counter()
        assert [post.told["title"].partition(" · ")[0] for post in server.posts] == [TITLE, "🗂 1 alert in one message"]


def test_all_but_critical_alerts_come_in_digests_as_far_apart_as_was_set(box: Outbox) -> None:
    with receiver(*[TAKEN] * 20) as server:
        box.add("team", f"json://127.0.0.1:{server.port}", terms(digest_every=timedelta(hours=6)), "apprise")
        box.raise_alerts(alert(1), alert(2), alert(3, Severity.critical))
        box.drain(timedelta(hours=5))
        assert [post.told["title"] for post in server.posts] == [TITLE]
        box.drain(timedelta(hours=7))
        assert box.now - T0 >= timedelta(hours=6)
        first = box.now
        box.raise_alerts(alert(4, seen_at=box.now))
        box.drain(timedelta(days=1))
        assert box.now - first >= timedelta(hours=6)
        titles = [post.told["title"].partition(" · ")[0] for post in server.posts]
        assert titles == [TITLE, "🗂 2 alerts in one message", "🗂 1 alert in one message"]


def test_a_service_that_is_away_gets_what_it_missed_and_holds_up_no_other(box: Outbox) -> None:
    with receiver(up=False) as away, receiver(*[TAKEN] * 5) as well:
        box.add("away", f"json://127.0.0.1:{away.port}", kind="apprise")
        box.add("well", f"json://127.0.0.1:{well.port}", kind="apprise")
        box.raise_alerts(alert(1), alert(2))
        away.answering = lambda _: TAKEN
        box.then = lambda: box.now > T0 + HOUR and away.up()
        box.drain(2 * HOUR)
        assert len(well.posts) == 2
        assert [post.told["title"].partition(" · ")[0] for post in away.posts] == [
            "⏸ No messages were taken here since 14 Mar 12:02 UTC"
        ]
    assert set(box.states("away").values()) == {"digested"}
    assert read_one(box.connection, "away").state == "on"


def test_a_request_without_an_end_is_uncertain_and_the_next_one_waits_for_it() -> None:
    async def twice(url: str) -> list[object]:
        notifier = Notifier(private=True, seconds=1.0)
        return [await notifier.notify("team", Target(url), "title", "body") for _ in range(2)]

    with receiver(NEVER) as server:
        first, second = asyncio.run(twice(f"json://127.0.0.1:{server.port}/?rto=1800"))
        assert isinstance(first, Unknown)
        assert second == NotSent("the request before has not ended yet")


def test_a_request_for_which_there_is_no_thread_does_not_end_all_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def twice(url: str) -> tuple[object, object]:
        notifier, target = Notifier(private=True), Target(url)
        with monkeypatch.context() as busy:
            busy.setattr(threading.Thread, "start", none_left)
            first = await notifier.notify("team", target, "title", "body")
        return first, await notifier.notify("team", target, "title", "body")

    with receiver(TAKEN) as server:
        assert asyncio.run(twice(f"json://127.0.0.1:{server.port}/")) == (NotSent("no thread could be started"), Sent())


def test_an_answer_is_waited_for_longer_than_apprise_would() -> None:
    assert _service("json://example.org").socket_read_timeout == 15
    assert _service("json://example.org/?rto=20").socket_read_timeout == 20


def test_private_addresses_are_asked_only_if_a_setting_allows_it(box: Outbox) -> None:
    box.private = False
    with receiver(TAKEN) as server:
        box.add("team", f"json://127.0.0.1:{server.port}", kind="apprise")
        assert isinstance(box.test("team"), ChannelRefused)
        assert server.posts == []
        box.private = True
        assert box.test("team") == Sent()
        assert server.posts[0].told["title"] == "🔔 Test: alerts of txwatch arrive here"


def test_a_service_is_judged_by_the_address_that_is_connected_to() -> None:
    """Not by its host alone: a name leads elsewhere a moment later, and this one asks for a file where it is told."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.setblocking(False)
        file = f"http://127.0.0.1:{inside.getsockname()[1]}/latest/meta-data"
        asked = Notifier(private=False).notify("push", Target(f"vapid://team@example.org/?keyfile={file}"), "t", "b")
        assert isinstance(asyncio.run(asked), ChannelRefused)
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_a_thread_connects_to_public_addresses_alone_and_others_as_they_like() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside, public_alone() as refused:
        place = inside.getsockname()
        for family, kind, to in (
            (socket.AF_INET, socket.SOCK_STREAM, place),
            (socket.AF_INET, socket.SOCK_STREAM, ("localhost", place[1])),
            (socket.AF_UNIX, socket.SOCK_STREAM, "/run/docker.sock"),
        ):
            with socket.socket(family, kind) as one, pytest.raises(PrivateAddressError):
                one.connect(to)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(PrivateAddressError):
            one.sendto(b"x", place)
        assert len(refused) == 4
        with ThreadPoolExecutor() as elsewhere:
            elsewhere.submit(socket.create_connection, place).result().close()
    with socket.create_server(("127.0.0.1", 0)) as inside:
        socket.create_connection(inside.getsockname()).close()


def test_redirects_are_not_followed_and_nothing_secret_is_logged_or_shown(
    box: Outbox, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = io.StringIO()
    with (
        logging_to(log, tmp_path),
        receiver(TAKEN) as other,
        receiver(answer(302, f"Location: http://127.0.0.1:{other.port}/elsewhere")) as server,
    ):
        box.add("team", f"json://user:hunter2@127.0.0.1:{server.port}/hunter3", kind="apprise")
        box.raise_alerts(alert(1))
        assert box.drain(SECOND / 2) == Counter(notsent=1)
        assert other.posts == []
        reasons = box.connection.execute("SELECT reason FROM alert_deliveries").fetchall()
        assert reasons == [("JSON did not take the message (status 302)",)]
        shown = log.getvalue() + "".join(capfd.readouterr()) + repr(list_channels(box.connection)) + repr(reasons)
        assert "hunter" not in shown
        assert [json.loads(line)["event"] for line in log.getvalue().splitlines()] == ["channel_request"]
