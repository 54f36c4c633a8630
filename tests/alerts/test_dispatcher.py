"""What the dispatcher does between the database and Telegram, with a clock that only its own waiting moves."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, transaction
from tests.waiting import PATIENCE_SECONDS, eventually
from txwatch.alerts.deliveries import chat_lock
from txwatch.alerts.dispatcher import RECONNECT_SECONDS, Dispatcher
from txwatch.alerts.feedback import BUTTONS
from txwatch.alerts.kinds import Severity
from txwatch.alerts.outcomes import NotSent, Sent
from txwatch.alerts.pacing import Limits
from txwatch.alerts.raising import Alert
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import insert_alerts
from txwatch.alerts.updates import AlertUpdate, insert_updates
from txwatch.detection.reasons import Reason
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels
from txwatch.simulator.telegram import Fault, LocalTelegram
from txwatch.simulator.telegram_server import TelegramServer
from txwatch.store.database import Connection, connect
from txwatch.store.landing import land_transactions

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
CHAT, OTHER = "42", "43"


@dataclass
class Waited:
    """A clock that stands still but for the waits, and what those were, in seconds."""

    now: datetime = T0
    seconds: list[float] = field(default_factory=list)
    then: Callable[[], object] = lambda: None
    """What happens during each wait."""

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)
        self.then()


@dataclass
class Delivery:
    """A dispatcher of one chat or several, the local Telegram that it sends to, and the database between."""

    database_url: str
    connection: Connection
    local: LocalTelegram
    server: TelegramServer
    waited: Waited

    def dispatcher(self, sender: TelegramSender, *chats: str, limits: Limits | None = None) -> Dispatcher:
        waited = self.waited
        return Dispatcher(
            self.database_url, sender, chats or (CHAT,), limits or Limits(), clock=waited.clock, sleep=waited.sleep
        )

    def raise_alerts(self, *alerts: Alert, chats: tuple[str, ...] = (CHAT,)) -> None:
        with self.connection.transaction():
            insert_alerts(self.connection, alerts, chats)

    def tell(self, key: str, text: str, at: datetime) -> None:
        with self.connection.transaction():
            insert_updates(self.connection, [AlertUpdate(key, f"kind:{text}", text, at)])

    def drain(self, patience: timedelta = HOUR, *chats: str, limits: Limits | None = None) -> Counter[str]:
        async def drained() -> Counter[str]:
            async with TelegramSender("1:a", self.server.url) as sender:
                dispatcher = self.dispatcher(sender, *chats, limits=limits)
                await dispatcher.drain(patience)
                return dispatcher.delivered

        return asyncio.run(drained())

    def reply(self, chat_id: str, html: str) -> object:
        async def replied() -> object:
            async with TelegramSender("1:a", self.server.url) as sender:
                return await self.dispatcher(sender).reply(chat_id, html)

        return asyncio.run(replied())

    def run(self, *chats: str, waits: int) -> Counter[str]:
        """Run until there were so many waits."""

        async def running() -> Counter[str]:
            stop = asyncio.Event()

            def count() -> None:
                if len(self.waited.seconds) >= waits:
                    stop.set()

            self.waited.then = count
            async with TelegramSender("1:a", self.server.url) as sender:
                dispatcher = self.dispatcher(sender, *chats)
                await dispatcher.run(stop)
                return dispatcher.delivered

        return asyncio.run(running())

    def states(self) -> dict[str, str]:
        return dict(self.connection.execute("SELECT alert_key, state FROM alert_deliveries").fetchall())


@pytest.fixture
def delivery(database_url: str) -> Iterator[Delivery]:
    waited = Waited()
    local = LocalTelegram(waited.clock)
    with connect(database_url) as connection, TelegramServer(local) as server:
        connection.execute("TRUNCATE alerts, telegram_chats, telegram_requests, transactions, labels CASCADE")
        yield Delivery(database_url, connection, local, server, waited)


def alert(
    n: int, severity: Severity = Severity.high, *, seen_at: datetime = T0, late: bool = False, kind: str = "whale"
) -> Alert:
    return Alert(f"{n:064x}", [kind], severity, [Reason(kind, f"reason {n}")], late, seen_at, seen_at, "3")


def test_a_chat_gets_one_message_a_second_and_waits_no_longer(delivery: Delivery) -> None:
    seen: list[set[str]] = []
    delivery.waited.then = lambda: seen.append(applications(delivery.connection))
    delivery.raise_alerts(*(alert(n, seen_at=T0 + n * SECOND / 10) for n in range(3)))
    assert delivery.drain() == Counter(sent=3)
    assert [m.at for m in delivery.local.received] == [T0, T0 + SECOND, T0 + 2 * SECOND]
    assert delivery.waited.seconds == [1.0, 1.0]
    assert "txwatch alerts" in seen[0], "who looks at the server sees whose connection it is"
    assert set(delivery.states().values()) == {"sent"}
    assert delivery.connection.execute("SELECT DISTINCT sent_at FROM alert_deliveries ORDER BY 1").fetchall() == [
        (m.at,) for m in delivery.local.received
    ]


def test_chats_do_not_wait_for_each_other(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1), chats=(CHAT, OTHER))
    assert delivery.drain(HOUR, CHAT, OTHER) == Counter(sent=2)
    assert {m.chat_id for m in delivery.local.received} == {CHAT, OTHER}
    assert delivery.waited.seconds == []


@pytest.mark.parametrize(("patience", "sent"), [(0.9 * SECOND, 1), (SECOND, 2)])
def test_what_may_not_be_sent_within_the_patience_is_left(delivery: Delivery, patience: timedelta, sent: int) -> None:
    delivery.raise_alerts(*(alert(n) for n in range(3)))
    assert delivery.drain(patience) == Counter(sent=sent)
    assert delivery.waited.seconds == [1.0] * (sent - 1)
    assert Counter(delivery.states().values()) == Counter(sent=sent, pending=3 - sent)


def test_a_chat_that_another_process_serves_is_left_to_it(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    with chat_lock(delivery.connection, CHAT):
        assert delivery.drain(0.3 * SECOND) == Counter()
    assert delivery.waited.seconds == [0.2]
    assert delivery.states() == {alert(1).alert_key: "pending"}


def test_too_many_requests_of_all_processes_are_waited_for(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    assert delivery.drain(0.3 * SECOND, limits=Limits(overall_per_second=0)) == Counter()
    assert delivery.waited.seconds == [0.2]
    assert delivery.states() == {alert(1).alert_key: "pending"}


def test_each_outcome_is_counted_and_decides_what_comes_next(delivery: Delivery) -> None:
    delivery.raise_alerts(*(alert(n, seen_at=T0 - n * SECOND) for n in (4, 3, 2, 1)))
    delivery.local.faults.extend([Fault.server_error, Fault.server_error, Fault.forbidden, Fault.accept_then_garbage])
    assert delivery.drain() == Counter(notsent=2, refused=1, unknown=1, sent=3)
    assert delivery.waited.seconds[:4] == [1.0, 2.0, 1.0, 1.0], "the second failure in a row doubles the wait"
    assert [delivery.states()[alert(n).alert_key] for n in (4, 3, 2, 1)] == ["dead", "uncertain", "sent", "sent"]
    assert delivery.local.received[-1].text.startswith("⚠️ 1 alert may not have reached you")


def test_a_message_says_what_is_known_of_its_transaction(delivery: Delivery) -> None:
    label = Label("bc1qspent", "a list", "Blender.io", "mixing_service")
    with delivery.connection.transaction():
        land_transactions(delivery.connection, [transaction(txid=alert(1).alert_key)])
        import_labels(delivery.connection, [label], T0)
    delivery.waited.now = T0 + 12 * MINUTE
    delivery.raise_alerts(alert(1), alert(2, Severity.low))
    delivery.drain()
    first, second = delivery.local.received
    lines = first.text.splitlines()
    assert "🏷 from Blender.io (mixing service, a list)" in lines
    assert "total 9,520 sat · fee 1,220 sat (11.0 sat/vB) · 1 in → 1 out" in lines
    assert "sent 12 min later · model 3" in lines[-1]
    assert (first.silent, first.buttons) == (False, BUTTONS)
    assert (second.silent, second.buttons) == (True, BUTTONS)
    assert len(second.text.splitlines()) == 3, "of a transaction that is gone nothing is known but its name"


def test_a_message_about_the_system_asks_for_no_verdict(delivery: Delivery) -> None:
    about = Alert("system:silence", ["silence"], Severity.critical, [Reason("silence", "no feed")], False, T0, T0)
    delivery.raise_alerts(about)
    delivery.drain()
    (message,) = delivery.local.received
    assert "no feed" in message.text
    assert (message.buttons, message.silent) == ((), False)


def test_a_digest_names_what_came_late_with_its_amount_and_its_day(delivery: Delivery) -> None:
    two_days_ago = T0 - timedelta(days=2)
    late = [alert(1, seen_at=two_days_ago, late=True, kind="forest"), alert(2, seen_at=T0 - HOUR, late=True)]
    with delivery.connection.transaction():
        values = {"value_sat": 250_000_000, "seen_at": two_days_ago}
        land_transactions(delivery.connection, [transaction(txid=late[0].alert_key, **values)])
    delivery.raise_alerts(*late)
    assert delivery.drain() == Counter(sent=1)
    (digest,) = delivery.local.received
    first, second = digest.text.splitlines()[2:]
    assert "12 Mar 12:00" in first
    assert first.endswith("2.50 BTC · reason 1")
    assert "11:00:00" in second
    assert second.endswith("reason 2")
    assert (digest.silent, digest.buttons) == (True, ())
    assert set(delivery.states().values()) == {"digested"}


def test_a_digest_of_what_waited_too_long_makes_a_sound(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1, seen_at=T0 - HOUR))
    delivery.drain()
    assert not delivery.local.received[0].silent


def test_news_are_written_into_the_message_that_was_sent(delivery: Delivery) -> None:
    delivery.waited.now = T0 + MINUTE
    delivery.raise_alerts(alert(1))
    delivery.drain()
    before = delivery.local.received[0]
    delivery.waited.now = T0 + 30 * MINUTE
    delivery.tell(alert(1).alert_key, "also dust", T0 + 20 * MINUTE)
    assert delivery.drain() == Counter(sent=1)
    assert delivery.drain() == Counter(), "what the message shows is written down"
    (after,) = delivery.local.received
    assert "also dust" in after.text
    assert "sent 60 s later" in after.text, "the time at which it was sent stays"
    assert (after.message_id, after.at, after.buttons) == (before.message_id, before.at, BUTTONS)
    assert after.edited_at == T0 + 30 * MINUTE
    delivery.tell(alert(1).alert_key, "also more", T0 + 31 * MINUTE)
    delivery.local.faults.append(Fault.server_error)
    assert delivery.drain() == Counter(notsent=1, sent=1), "an edit may be repeated"
    assert "also more" in delivery.local.received[0].text


def test_a_chat_that_moved_is_served_where_it_is(delivery: Delivery) -> None:
    delivery.connection.execute("INSERT INTO telegram_chats (chat_id, moved_to) VALUES (%s, '-100')", [CHAT])
    delivery.raise_alerts(alert(1))
    delivery.drain()
    delivery.tell(alert(1).alert_key, "also dust", T0)
    delivery.drain()
    assert delivery.reply(CHAT, "hello") == Sent(2)
    assert [m.chat_id for m in delivery.local.received] == ["-100", "-100"]
    assert "also dust" in delivery.local.received[0].text


def test_what_a_process_that_is_gone_left_behind_is_named_and_not_sent_again(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    delivery.connection.execute("UPDATE alert_deliveries SET state = 'sending', request_id = -1")
    assert delivery.drain() == Counter(sent=1)
    assert delivery.states() == {alert(1).alert_key: "uncertain"}
    assert delivery.local.received[0].text.startswith("⚠️ 1 alert may not have reached you")


def applications(connection: Connection) -> set[str]:
    rows = connection.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    return {name for (name,) in rows.fetchall()}


def test_an_answer_waits_its_turn_and_is_tried_once(delivery: Delivery) -> None:
    seen: list[set[str]] = []
    delivery.waited.then = lambda: seen.append(applications(delivery.connection))
    delivery.raise_alerts(alert(1))
    delivery.drain()
    assert delivery.reply(CHAT, "<b>well</b>") == Sent(2)
    assert delivery.waited.seconds == [1.0]
    assert "txwatch bot" in seen[0]
    answer = delivery.local.received[1]
    assert (answer.html, answer.at, answer.silent) == ("<b>well</b>", T0 + SECOND, False)
    delivery.waited.now += MINUTE
    delivery.local.faults.append(Fault.server_error)
    assert isinstance(delivery.reply(OTHER, "x"), NotSent)
    assert len(delivery.local.received) == 2
    rows = delivery.connection.execute("SELECT purpose, ended_at FROM telegram_requests ORDER BY id").fetchall()
    assert rows == [("alert", T0), ("reply", T0 + SECOND), ("reply", T0 + MINUTE + SECOND)]
    failed = delivery.connection.execute("SELECT failures FROM telegram_chats WHERE chat_id = %s", [OTHER])
    assert failed.fetchone() == (1,), "and the chat is left alone for a while"


def test_an_answer_waits_while_another_process_serves_the_chat(delivery: Delivery) -> None:
    with connect(delivery.database_url) as another:
        another.execute("SELECT 1")
        held = chat_lock(another, CHAT)
        assert held.__enter__()
        delivery.waited.then = lambda: len(delivery.waited.seconds) == 2 and held.__exit__(None, None, None)
        assert delivery.reply(CHAT, "x") == Sent(1)
    assert delivery.waited.seconds == [0.2, 0.2]


def test_a_dispatcher_that_runs_looks_every_second_and_serves_every_chat(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1), chats=(CHAT, OTHER))
    assert delivery.run(CHAT, OTHER, waits=4) == Counter(sent=2)
    assert {m.chat_id for m in delivery.local.received} == {CHAT, OTHER}
    assert set(delivery.waited.seconds) == {1.0}


def test_a_dispatcher_that_runs_rests_until_something_may_be_sent(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1), alert(2))
    delivery.connection.execute(
        "INSERT INTO telegram_chats (chat_id, held_until) VALUES (%s, %s)", [CHAT, T0 + 2.25 * SECOND]
    )
    assert delivery.run(waits=5) == Counter(sent=2)
    assert delivery.waited.seconds == [1.0, 1.0, 0.25, 1.0, 1.0], "never longer than it takes to look again"


def test_a_rest_ends_when_it_is_woken_and_when_it_is_told_to_stop(delivery: Delivery) -> None:
    async def scenario() -> None:
        stop, rests = asyncio.Event(), 0

        async def for_ever(_: float) -> None:
            nonlocal rests
            rests += 1
            await asyncio.Event().wait()

        async with TelegramSender("1:a", delivery.server.url) as sender:
            dispatcher = Dispatcher(
                delivery.database_url, sender, (CHAT, OTHER), clock=delivery.waited.clock, sleep=for_ever
            )
            running = asyncio.create_task(dispatcher.run(stop))
            await eventually(lambda: rests == 2, "both chats rest")
            delivery.raise_alerts(alert(1), chats=(CHAT, OTHER))
            dispatcher.wake()
            await eventually(lambda: dispatcher.delivered["sent"] == 2, "both are sent")
            await eventually(lambda: rests == 4, "both rest again: one call wakes once")
            stop.set()
            await asyncio.wait_for(running, PATIENCE_SECONDS)

    asyncio.run(scenario())


def test_a_dispatcher_waits_for_its_database(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    names: list[set[str]] = []

    def cut_off() -> None:
        names.append(applications(delivery.connection))
        delivery.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def scenario() -> None:
        stop = asyncio.Event()

        def during_each_wait() -> None:
            if len(delivery.waited.seconds) == 1:
                cut_off()
            if delivery.waited.seconds[-1] == RECONNECT_SECONDS:
                delivery.raise_alerts(alert(2))
            if len(delivery.local.received) == 2:
                stop.set()

        delivery.waited.then = during_each_wait
        async with TelegramSender("1:a", delivery.server.url) as sender:
            await delivery.dispatcher(sender).run(stop)

    asyncio.run(scenario())
    assert "txwatch alerts" in names[0]
    assert delivery.waited.seconds[1] == RECONNECT_SECONDS
    assert set(delivery.states().values()) == {"sent"}
    assert len(delivery.local.received) == 2
