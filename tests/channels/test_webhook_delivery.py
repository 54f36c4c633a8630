"""Signed webhooks to a receiver that verifies them itself: nothing lost, nothing doubled by key, revisions in order.

The clock stands still but for the dispatcher's own waits.
"""

import asyncio
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.builders import T0, transaction
from tests.channels.outbox import HOUR, MINUTE, SECOND, SECRET, Outbox, alert, outbox
from tests.channels.receiver import NEVER, Post, Receiver, answer, receiver
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.alerts.conditions import condition_alerts, read_raised
from txwatch.alerts.deliveries import take_over
from txwatch.alerts.health import conditions, read_health
from txwatch.channels.channel import terms
from txwatch.channels.outcomes import ChannelRefused, Sent
from txwatch.channels.store import list_channels, read_one, remove_channel, rotate_secret, set_enabled
from txwatch.channels.webhook import WebhookPoster
from txwatch.detection.kinds import Severity
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import connect
from txwatch.store.locks import Lock, if_free
from txwatch.store.transactions import land_transactions

KEY = alert(1).alert_key
DATE = format_datetime(T0 + 7 * MINUTE, usegmt=True)


@pytest.fixture
def box(database_url: str) -> Iterator[Outbox]:
    with outbox(database_url) as one:
        yield one


def test_an_alert_is_one_signed_event_and_each_revision_one_more(box: Outbox) -> None:
    with box.connection.transaction():
        land_transactions(box.connection, [transaction(txid=KEY)])
    with receiver() as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        assert box.drain() == Counter(sent=1)
        box.tell(KEY, "kind:forest", "also unusual")
        box.tell(KEY, "hop:x", "moved on")
        box.now += MINUTE
        assert box.drain() == Counter(sent=1)
        box.tell(KEY, "confirmed:b", "confirmed")
        box.tell(KEY, "dropped:mempool.space", "does not hold")
        assert box.drain() == Counter(sent=1)
        assert box.drain() == Counter()
    created, updated, last = hook.posts
    assert [p.told["event"] for p in hook.posts] == ["alert.created", "alert.updated", "alert.updated"]
    assert [p.key for p in hook.posts] == [f"{KEY}/0", f"{KEY}/2", f"{KEY}/4"]
    assert [p.signed_at(SECRET) for p in hook.posts] == [T0, T0 + MINUTE, T0 + MINUTE]
    assert [p.signed_at("another secret") for p in hook.posts] == [None] * 3
    assert created.headers["content-type"] == "application/json"
    assert (created.path, created.headers["x-txwatch-event"]) == ("/hook/of-somebody", "alert.created")
    told = created.told["alert"]
    assert created.told["version"] == 1
    assert (told["kinds"], told["severity"], told["updates"]) == (["whale"], "high", [])
    assert told["seen_at"] == "2024-03-14T12:00:00Z"
    assert told["transaction"] | {"moved_sat": 0} == {
        "txid": KEY,
        "value_sat": 9_520,
        "moved_sat": 0,
        "moved_usd": None,
        "fee_sat": 1_220,
        "fee_rate": 1_220 / 111,
        "vsize": 111,
        "input_count": 1,
        "output_count": 1,
    }
    assert updated.told["alert"]["updates"] == ["moved on", "also unusual"], "of one moment, by their keys"
    assert "does not hold" not in last.told["alert"]["updates"]


def test_every_channel_says_the_same(box: Outbox) -> None:
    with box.connection.transaction():
        land_transactions(box.connection, [transaction(txid=KEY)])
    local = LocalTelegram(box.clock)
    with receiver() as hook, receiver() as service, TelegramServer(local) as telegram:
        box.add("siem", hook.url)
        box.add("phone", service.url.replace("http://", "json://"), kind="apprise")
        box.raise_alerts(alert(1), chats=("42",))
        assert box.drain(HOUR, "42", telegram_url=telegram.url) == Counter(sent=3)
    (event,), (posted,), (message,) = hook.posts, service.posts, local.received
    *lines, origin = event.told["alert"]["text"].splitlines()
    assert lines[0] == "🐋 Whale · 0 sat"
    assert origin == f"00000000…0001 (https://mempool.space/tx/{KEY}) · seen 12:00:00 UTC · model 3"
    assert message.text.splitlines()[:-1] == lines
    assert [posted.told["title"], *posted.told["message"].splitlines()[:-1]] == lines


def test_what_ends_an_alert_closes_it(box: Outbox) -> None:
    with receiver() as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        box.drain()
        box.tell(KEY, "replaced_by:x", "replaced")
        box.drain()
    assert [p.headers["x-txwatch-event"] for p in hook.posts] == ["alert.created", "alert.closed"]
    assert hook.posts[1].told["event"] == "alert.closed"


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        (answer(500), 1),
        (answer(503, "Retry-After: 90"), 90),
        (answer(429, "Retry-After: 30"), 30),
        (answer(429, f"Retry-After: {DATE}"), 7 * 60),
        (answer(429, "Retry-After: 99999999999999999999"), 3_600),
        (answer(429, "Retry-After: soon"), 1),
        (answer(429, "Retry-After: Mon, 01 Jan 0001 00:00:00 GMT"), 1),
        (answer(503, "Retry-After: 0"), 1),
        (answer(404), 60),
        (answer(401), 60),
        (answer(302, "Location: http://127.0.0.1:9/elsewhere"), 60),
        (answer(307, "Location: /other"), 60),
        (answer(500, body=b"x" * 10, length=1_000), 1),
    ],
)
def test_what_it_does_not_take_comes_again_when_it_may(box: Outbox, said: bytes, waits: float) -> None:
    with receiver(said) as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1), alert(2))
        box.drain(2 * HOUR)
        assert sum(box.waited) == waits
        assert hook.keys() == sorted(hook.keys(), key=lambda key: key == f"{KEY}/0"), "another went first"
        assert sorted(hook.keys()) == [f"{KEY}/0", f"{alert(2).alert_key}/0"]
        assert len(hook.posts) == 3
        assert {post.path for post in hook.posts} == {"/hook/of-somebody"}, "redirects are not followed"
    assert set(box.states().values()) == {"sent"}
    assert list_channels(box.connection)[0].state == "on"


def test_one_that_asks_for_no_pause_is_asked_ever_more_slowly(box: Outbox) -> None:
    enough = 50
    with receiver() as hook:
        hook.answering = lambda _: answer(503, "Retry-After: 0") if len(hook.posts) < enough else None
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        assert box.drain(MINUTE) == Counter(notsent=6)
        assert box.waited == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("said", [NEVER, b"HTTP/1.1 20", b"not HTTP at all\r\n\r\n"])
def test_what_was_not_answered_is_uncertain_and_comes_again_with_its_key(box: Outbox, said: bytes) -> None:
    box.answer_seconds = 0.5 if said == NEVER else PATIENCE_SECONDS
    with receiver(said) as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        assert box.drain() == Counter(unanswered=1)
        assert box.states() == {KEY: "uncertain"}
        box.now += 59 * SECOND
        box.answer_seconds = PATIENCE_SECONDS
        assert box.drain() == Counter(), "the first one may still be handled"
        box.now += 2 * SECOND
        assert box.drain() == Counter(sent=1)
        assert [post.key for post in hook.posts] == [f"{KEY}/0"] * 2
        assert hook.posts[0].body == hook.posts[1].body
    assert box.states() == {KEY: "sent"}


def test_an_answer_whose_body_is_cut_or_without_end_is_an_answer(box: Outbox) -> None:
    with receiver(answer(200, body=b"{", length=10**12), answer(202, body=b"x" * 1_000_000)) as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1), alert(2))
        assert box.drain() == Counter(sent=2)
        assert len(hook.posts) == 2


def test_a_receiver_that_is_down_for_an_hour_gets_all_once_and_revisions_in_order(box: Outbox) -> None:
    with receiver(up=False) as hook:
        box.add("siem", hook.url)
        box.raise_alerts(*(alert(n) for n in range(3)))
        came_up: list[datetime] = []

        def later() -> None:
            if box.now > T0 + 30 * MINUTE and not box.states().get(alert(9).alert_key):
                box.raise_alerts(alert(9, seen_at=box.now))
                box.tell(alert(1).alert_key, "kind:forest")
            if box.now > T0 + HOUR and not came_up:
                came_up.append(box.now)
                hook.up()

        box.then = later
        box.drain(3 * HOUR)
        assert max(box.waited) == 300
        assert len(box.waited) < 30
        assert Counter(post.key for post in hook.posts) == Counter(
            [*(f"{alert(n).alert_key}/0" for n in (0, 1, 2, 9)), f"{alert(1).alert_key}/1"]
        )
        assert hook.revisions(alert(1).alert_key) == [0, 1]
        assert all(post.signed_at(SECRET) for post in hook.posts)
        assert min(post.signed_at(SECRET) or T0 for post in hook.posts) >= came_up[0]
    assert set(box.states().values()) == {"sent"}
    assert read_one(box.connection, "siem").failures == 0


def test_revisions_come_in_order_whatever_is_answered(box: Outbox) -> None:
    faults = [answer(500), NEVER, answer(429), b"HTTP", answer(302), answer(500)] * 3
    with receiver(*faults) as hook:
        box.answer_seconds = 0.5
        box.add("siem", hook.url)
        box.raise_alerts(*(alert(n) for n in range(4)))
        for turn in range(6):
            for n in range(4):
                box.tell(alert(n).alert_key, f"kind:{turn}")
            box.drain(2 * HOUR)
            box.now += 2 * MINUTE
        box.answer_seconds = PATIENCE_SECONDS
        box.drain(2 * HOUR)
        for n in range(4):
            revisions = hook.revisions(alert(n).alert_key)
            assert revisions[0] == 0
            assert revisions == sorted(revisions)
            assert revisions[-1] == 6
        taken = {post.key: post.body for post in hook.taken}
        assert all(taken[post.key] == post.body for post in hook.taken), "the same key says the same"
    assert set(box.states().values()) == {"sent"}


def test_gone_disables_it_and_what_waits_goes_out_when_somebody_enables_it(box: Outbox) -> None:
    with receiver(answer(410)) as hook:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1), alert(2))
        assert box.drain() == Counter(gone=1)
        assert set(box.states().values()) == {"pending"}
        one = read_one(box.connection, "siem")
        assert (one.state, one.disabled_at, one.refusal) == ("off", T0, "it answered 410 (gone)")
        box.raise_alerts(alert(3))
        assert alert(3).alert_key not in box.states(), "it gets none meanwhile"
        set_enabled(box.connection, "siem", box.now, enabled=True)
        assert box.drain() == Counter(sent=2)
        assert len(hook.posts) == 3


def test_an_event_that_is_never_taken_is_dead_and_one_that_always_fails_holds_up_no_other(box: Outbox) -> None:
    def said(post: Post) -> bytes | None:
        return {"1": answer(400), "2": answer(500)}.get(post.told["alert"]["alert_key"][-1])

    with receiver() as hook:
        hook.answering = said
        box.add("siem", hook.url)
        box.raise_alerts(*(alert(n) for n in range(1, 6)))
        box.drain(10 * SECOND)
        box.tell(alert(3).alert_key, "kind:forest")
        box.tell(alert(4).alert_key, "kind:forest")
        box.drain(MINUTE)
        assert len(hook.taken) == 5, "three events and two revisions"
    states = box.states()
    assert [states[alert(n).alert_key] for n in range(1, 6)] == ["dead", "pending", "sent", "sent", "sent"]


def test_one_bad_channel_holds_up_no_other(box: Outbox) -> None:
    with receiver(*[NEVER] * 3) as slow, receiver() as well:
        box.answer_seconds = 0.5
        box.add("slow", slow.url)
        box.add("well", well.url)
        box.raise_alerts(*(alert(n) for n in range(3)))
        box.drain(10 * SECOND)
        assert len(well.taken) == 3
        assert set(box.states("well").values()) == {"sent"}
        assert "sent" not in box.states("slow").values()


def test_two_dispatchers_at_once_double_nothing(box: Outbox) -> None:
    async def both() -> None:
        async with WebhookPoster(private=True, clock=box.clock) as poster:
            dispatchers = [box.dispatcher(poster) for _ in range(2)]
            await asyncio.gather(*(one.drain(HOUR) for one in dispatchers))

    with receiver() as hook:
        box.add("siem", hook.url)
        box.raise_alerts(*(alert(n) for n in range(10)))
        asyncio.run(both())
        assert Counter(post.key for post in hook.posts) == Counter(f"{alert(n).alert_key}/0" for n in range(10))


def test_channels_come_and_go_while_it_runs(box: Outbox) -> None:
    states = iter(range(100))

    def act(stop: asyncio.Event, hook: Receiver) -> None:
        """Each step once the one before it has come to pass."""
        if len(hook.taken) == act_at[0]:
            match next(states):
                case 0:
                    box.add("siem", hook.url)
                    box.raise_alerts(alert(1))
                    act_at[0] = 1
                case 1:
                    set_enabled(box.connection, "siem", box.now, enabled=False)
                    box.raise_alerts(alert(2))
                    set_enabled(box.connection, "siem", box.now, enabled=True)
                    box.raise_alerts(alert(3))
                    act_at[0] = 2
                case 2:
                    remove_channel(box.connection, "siem")
                    box.add("again", hook.url)
                    box.raise_alerts(alert(4))
                    act_at[0] = 3
                case _:
                    stop.set()

    async def running(hook: Receiver) -> None:
        stop = asyncio.Event()
        box.then = lambda: act(stop, hook)
        async with WebhookPoster(private=True, clock=box.clock) as poster:
            await box.dispatcher(poster).run(stop)

    act_at = [0]
    with receiver() as hook:
        asyncio.run(running(hook))
        assert hook.keys() == [f"{alert(n).alert_key}/0" for n in (1, 3, 4)]
        assert len(hook.posts) == 3


def test_whoever_gets_the_name_of_a_removed_channel_gets_nothing_of_before(box: Outbox) -> None:
    with receiver(b"HTTP/1.1 20", answer(503)) as before, receiver() as after:
        box.add("siem", before.url)
        box.raise_alerts(alert(1), alert(2))
        box.drain(SECOND / 2)
        assert set(box.states().values()) == {"uncertain", "pending"}
        remove_channel(box.connection, "siem")
        box.add("siem", after.url)
        box.now += HOUR
        box.raise_alerts(alert(3, seen_at=box.now))
        box.drain()
        assert after.keys() == [f"{alert(3).alert_key}/0"]


def test_whoever_gets_the_name_of_a_removed_channel_gets_no_updates_of_before(box: Outbox) -> None:
    with receiver() as before, receiver() as after:
        box.add("siem", before.url)
        box.raise_alerts(alert(1), alert(2))
        box.drain()
        box.tell(alert(1).alert_key, "kind:one")

        def replaced(post: Post) -> None:
            if post.key == f"{alert(1).alert_key}/1":
                remove_channel(box.connection, "siem")
                box.add("siem", after.url)

        before.answering = replaced
        box.drain()
        assert before.keys()[-1] == f"{alert(1).alert_key}/1", "it was under way"
        box.tell(alert(1).alert_key, "kind:two")
        box.tell(alert(2).alert_key, "kind:two")
        box.raise_alerts(alert(3))
        box.tell(alert(3).alert_key, "kind:two")
        box.drain()
        assert after.keys() == [f"{alert(3).alert_key}/{revision}" for revision in (0, 1)]
    assert set(box.states().values()) == {"sent"}, "what was sent stays"


def test_an_answer_that_was_under_way_says_nothing_of_whoever_gets_the_name(box: Outbox) -> None:
    with receiver() as before, receiver() as after:
        box.add("siem", before.url)
        box.raise_alerts(alert(1))

        def gone(_: Post) -> bytes:
            remove_channel(box.connection, "siem")
            box.add("siem", after.url)
            return answer(410)

        before.answering = gone
        box.drain()
        assert read_one(box.connection, "siem").state == "on"
        box.raise_alerts(alert(2))
        box.drain()
        assert after.keys() == [f"{alert(2).alert_key}/0"]


def test_what_was_dead_for_a_removed_channel_is_in_no_digest_of_another(box: Outbox) -> None:
    with receiver(answer(422)) as before, receiver() as after:
        box.add("siem", before.url)
        box.raise_alerts(alert(1))
        box.drain()
        assert set(box.states().values()) == {"dead"}
        remove_channel(box.connection, "siem")
        box.add("siem", f"json://127.0.0.1:{after.port}", kind="apprise")
        box.raise_alerts(alert(2, late=True))
        box.drain()
        [post] = after.posts
        assert alert(1).alert_key not in post.body.decode()


def test_killed_between_request_and_record_it_is_uncertain(box: Outbox) -> None:
    killed: list[int] = []

    def kill(_: Post) -> bytes | None:
        if process.pid is not None and not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            return NEVER
        return None

    with receiver() as hook:
        hook.answering = kill
        box.add("siem", hook.url)
        box.raise_alerts(alert(1), alert(2))
        process = multiprocessing.get_context("spawn").Process(target=drain_in_a_process, args=[box.database_url])
        process.start()
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == -signal.SIGKILL
        assert sorted(box.states().values()) == ["pending", "sending"]
        wait_until(lambda: settled(box), "the lock of the process that is gone is free")
        assert sorted(box.states().values()) == ["pending", "uncertain"]
        assert box.drain() == Counter(sent=1), "the other one goes out"
        assert sorted(box.states().values()) == ["sent", "uncertain"]
        box.now += 2 * MINUTE
        assert box.drain() == Counter(sent=1)
        assert Counter(post.key for post in hook.posts) == Counter({hook.posts[0].key: 2, hook.posts[1].key: 1}), (
            "it comes again by the same key"
        )
    assert set(box.states().values()) == {"sent"}


def settled(box: Outbox) -> bool:
    with if_free(box.connection, Lock.CHANNEL, "siem") as held:
        return held and take_over(box.connection, "siem", box.now) == 1


def drain_in_a_process(database_url: str) -> None:
    with connect(database_url) as connection:
        Outbox(database_url, connection).drain()


def test_both_secrets_sign_while_one_replaces_the_other(box: Outbox) -> None:
    new = "another secret of thirty-two letters"
    with receiver() as hook:
        box.add("siem", hook.url)
        rotate_secret(box.connection, "siem", new, T0 + HOUR)
        box.raise_alerts(alert(1))
        box.drain()
        box.now += HOUR
        box.raise_alerts(alert(2))
        box.drain()
        first, second = hook.posts
        assert first.headers["x-txwatch-signature"].count("v1=") == 2
        assert (first.signed_at(SECRET), first.signed_at(new)) == (T0, T0)
        assert (second.signed_at(SECRET), second.signed_at(new)) == (None, T0 + HOUR)


def test_private_addresses_are_asked_only_if_a_setting_allows_it(box: Outbox) -> None:
    box.private = False
    with receiver() as hook:
        box.add("siem", hook.url)
        box.add("by_name", hook.url.replace("127.0.0.1", "localhost"))
        box.raise_alerts(alert(1))
        assert box.drain(SECOND) == Counter(channelrefused=2)
        assert hook.posts == []
        assert "TXWATCH_WEBHOOK_PRIVATE" in str(read_one(box.connection, "siem").refusal)
        assert isinstance(box.test("siem"), ChannelRefused)
        box.private, box.now = True, box.now + HOUR
        assert box.drain(SECOND) == Counter(sent=2)
        assert {post.headers["host"].partition(":")[0] for post in hook.posts} == {"127.0.0.1", "localhost"}


def test_a_channel_gets_what_its_terms_say(box: Outbox) -> None:
    with receiver() as hook:
        box.add("severe", hook.url, terms(min_severity="critical"))
        box.add("kinds", hook.url, terms(kinds=["forest"], rules=["big-inflow"]))
        box.add("rules", hook.url, terms(rules=["*"]))
        box.add("quiet", hook.url, terms(quiet_hours="11:00-13:00 UTC"))
        box.raise_alerts(
            alert(1, kind="forest"),
            alert(2, Severity.critical),
            alert(3, kind="rule:big-inflow"),
            alert(4, kind="rule:other"),
        )
        box.drain(SECOND)

        def got(channel: str, state: str = "sent") -> set[int]:
            return {int(key, 16) for key, now in box.states(channel).items() if now == state}

        assert (got("severe"), got("kinds"), got("rules")) == ({2}, {1, 3}, {3, 4})
        assert (got("quiet"), got("quiet", "pending")) == ({2}, {1, 3, 4})
        box.drain(2 * HOUR)
        assert (got("quiet"), box.now) == ({1, 2, 3, 4}, T0 + HOUR)


def test_a_test_message_says_that_events_arrive_and_changes_nothing_else(box: Outbox) -> None:
    with receiver() as hook:
        box.add("siem", hook.url)
        assert box.test("siem") == Sent()
        (post,) = hook.posts
        assert post.told == {"version": 1, "event": "channel.test", "revision": 0, "alert": None}
        assert (post.key, post.signed_at(SECRET)) == (f"test/{T0.timestamp():.0f}", T0)
        assert box.states() == {}


def test_a_channel_that_refuses_is_named_in_another_one(box: Outbox, tmp_path: Path) -> None:
    local = LocalTelegram(box.clock)
    with receiver(*[answer(500)] * 20) as hook, TelegramServer(local) as server:
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        box.drain(20 * MINUTE)
        found = conditions(read_health(box.connection, tmp_path, box.now, ["42"]), box.now)
        [told] = [c for c in found if c.name == "chat_refuses:siem"]
        assert told.text == "Channel siem takes no messages since 14 Mar 12:02 UTC: it answered 500. Its alerts wait"
        box.raise_alerts(*condition_alerts([told], read_raised(box.connection), box.now), chats=("42",))
        box.drain(SECOND, "42", telegram_url=server.url)
        assert ["Channel siem takes no messages" in message.text for message in local.received] == [True]


def test_nothing_that_is_secret_is_logged_or_shown(
    box: Outbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with receiver(answer(500), b"no", answer(404)) as hook, caplog.at_level("DEBUG"):
        box.add("siem", hook.url)
        box.raise_alerts(alert(1))
        for _ in range(4):
            box.drain(SECOND)
            box.now += timedelta(minutes=2)
        shown = caplog.text + "".join(capsys.readouterr()) + repr(list_channels(box.connection))
        reasons = box.connection.execute("SELECT reason FROM alert_deliveries").fetchall()
        assert "of-somebody" not in shown + repr(reasons)
        assert SECRET not in shown + repr(reasons)
