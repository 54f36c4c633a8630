"""What the dispatcher does between the database and Telegram, with a clock that only its own waiting moves."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from tests.waiting import PATIENCE_SECONDS, eventually, wait_until
from txwatch.alerts.alert import Alert
from txwatch.alerts.carriers import WebhookCarrier
from txwatch.alerts.conditions import Condition, State, condition_alerts
from txwatch.alerts.dispatcher import ANSWER_PATIENCE, RECONNECT_SECONDS, Dispatcher
from txwatch.alerts.health import conditions, read_health
from txwatch.alerts.planning import Limits
from txwatch.alerts.sender import Buttons, TelegramSender
from txwatch.alerts.store import BUTTONS, AlertUpdate, insert_alerts, insert_updates, record_feedback
from txwatch.channels.channel import WrongChannelError
from txwatch.channels.outcomes import NotSent, Outcome, Sent
from txwatch.channels.webhook import WebhookPoster
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.lab.simulator.telegram import Fault, LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels
from txwatch.store.database import Connection, connect
from txwatch.store.locks import Lock, if_free
from txwatch.store.transactions import land_transactions

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
CHAT, OTHER = "42", "43"
PATIENCE_FOR_A_LOOP = 60.0
"""Seconds after which a loop that did not go on counts as stopped: the test fails then, and does not wait for ever."""


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

    def reply(self, chat_id: str, html: str, written_at: datetime | None = None) -> object:
        async def replied() -> object:
            async with TelegramSender("1:a", self.server.url) as sender:
                return await self.dispatcher(sender).reply(chat_id, html, written_at or self.waited.now)

        return asyncio.run(replied())

    def test(self, chat_id: str) -> object:
        async def tested() -> object:
            async with TelegramSender("1:a", self.server.url) as sender:
                return await self.dispatcher(sender).test(chat_id)

        return asyncio.run(tested())

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
        empty_tables(connection, "alerts, channels, channel_requests, transactions, labels")
        yield Delivery(database_url, connection, local, server, waited)


def is_waiting_for_a_lock(connection: Connection) -> bool:
    return bool(connection.execute("SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'").fetchall())


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


def test_a_test_message_reaches_a_chat_and_counts_as_no_alert(delivery: Delivery) -> None:
    assert delivery.test(CHAT) == Sent(delivery.local.received[0].message_id)
    assert [message.text for message in delivery.local.received] == ["🔔 Test: alerts of txwatch arrive here"]
    assert delivery.states() == {}
    rows = delivery.connection.execute("SELECT purpose, ended_at FROM channel_requests").fetchall()
    assert rows == [("test", T0)]


def test_a_test_waits_for_the_request_that_is_under_way_but_not_for_ever(delivery: Delivery) -> None:
    with if_free(delivery.connection, Lock.CHANNEL, CHAT):
        assert delivery.test(CHAT) == NotSent("another request to it is under way")
    assert 30 <= sum(delivery.waited.seconds) < 31
    assert delivery.local.received == []


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


def test_a_database_that_keeps_the_delivery_waiting_stops_nothing_else_on_its_loop(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    ran, went_on = threading.Event(), list[bool]()

    def let_go_once_the_loop_went_on(loop: asyncio.AbstractEventLoop, holder: Connection) -> None:
        wait_until(lambda: is_waiting_for_a_lock(delivery.connection), "the delivery waits for the table")
        loop.call_soon_threadsafe(ran.set)
        went_on.append(ran.wait(PATIENCE_FOR_A_LOOP))
        holder.rollback()

    async def scenario() -> Counter[str]:
        async with TelegramSender("1:a", delivery.server.url) as sender:
            dispatcher = delivery.dispatcher(sender, CHAT)
            with psycopg.connect(delivery.database_url) as holder:
                holder.execute("LOCK TABLE channels")
                beside = threading.Thread(
                    target=let_go_once_the_loop_went_on, args=(asyncio.get_running_loop(), holder)
                )
                beside.start()
                await dispatcher.drain(HOUR)
                beside.join()
            return dispatcher.delivered

    assert asyncio.run(scenario()) == Counter(sent=1)
    assert went_on == [True], "the loop stood still while the table was locked"


@pytest.mark.parametrize("state", ["pending", "sending"])
def test_a_chat_whose_rows_are_locked_holds_up_no_other(delivery: Delivery, state: str) -> None:
    delivery.raise_alerts(alert(1), chats=(CHAT, OTHER))
    delivery.connection.execute("UPDATE alert_deliveries SET state = %s WHERE channel = %s", [state, CHAT])
    for channel in (CHAT, OTHER):
        delivery.connection.execute(
            "INSERT INTO channel_requests (channel, purpose, started_at, ended_at) VALUES (%s, 'alert', %s, %s)",
            [channel, T0 - 2 * HOUR, T0 - 2 * HOUR],
        )

    async def scenario() -> list[str]:
        async with TelegramSender("1:a", delivery.server.url) as sender:
            dispatcher = delivery.dispatcher(sender, CHAT, OTHER)
            with psycopg.connect(delivery.database_url) as holder:
                holder.execute("SELECT FROM alert_deliveries WHERE channel = %s FOR UPDATE", [CHAT])
                draining = asyncio.create_task(dispatcher.drain(HOUR))
                await eventually(
                    lambda: delivery.local.received, "the other chat gets its message", PATIENCE_FOR_A_LOOP
                )
                while_locked = [message.chat_id for message in delivery.local.received]
                holder.rollback()
                await draining
            return while_locked

    assert asyncio.run(scenario()) == [OTHER]
    assert [message.chat_id for message in delivery.local.received] == [OTHER, CHAT]


def test_a_chat_that_another_process_serves_is_left_to_it(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1))
    with if_free(delivery.connection, Lock.CHANNEL, CHAT):
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
    delivery.local.faults.extend([Fault.server_error, Fault.server_error, Fault.unreadable, Fault.accept_then_garbage])
    assert delivery.drain() == Counter(notsent=2, refused=1, unknown=1, sent=3)
    assert delivery.waited.seconds[:4] == [1.0, 2.0, 1.0, 1.0], "the second failure in a row doubles the wait"
    assert [delivery.states()[alert(n).alert_key] for n in (4, 3, 2, 1)] == ["dead", "uncertain", "sent", "sent"]
    assert delivery.local.received[-1].text.startswith("⚠️ 2 alerts may not have reached you")


@pytest.mark.parametrize(
    "refusal",
    [
        (400, "Bad Request: not enough rights to send text messages to the chat"),
        (400, "Bad Request: TOPIC_CLOSED"),
        (400, "Bad Request: chat not found"),
        (403, "Forbidden: bot was kicked from the supergroup chat"),
        (403, "<html>the proxy does not like this</html>"),
    ],
)
def test_a_chat_that_refuses_for_a_while_loses_nothing_and_another_one_is_told(
    delivery: Delivery, refusal: tuple[int, str]
) -> None:
    delivery.local.refusals[CHAT] = refusal
    delivery.raise_alerts(*(alert(n) for n in range(4)))
    assert delivery.drain(10 * MINUTE) == Counter(channelrefused=4)
    assert delivery.waited.seconds == [60.0, 120.0, 240.0]
    assert Counter(delivery.states().values()) == Counter(pending=4)

    def conditions_now() -> dict[str, Condition]:
        health = read_health(delivery.connection, Path.cwd(), delivery.waited.now, (CHAT, OTHER))
        return {condition.name: condition for condition in conditions(health, delivery.waited.now)}

    found = conditions_now()
    assert found[f"chat_refuses:{OTHER}"].state is State.well
    wrong = found[f"chat_refuses:{CHAT}"]
    assert (wrong.state, wrong.since) == (State.wrong, T0)
    told = condition_alerts([wrong], {}, delivery.waited.now)
    delivery.raise_alerts(*told, chats=(CHAT, OTHER))
    assert delivery.drain(SECOND, OTHER) == Counter(sent=1)
    assert f"Chat {CHAT} takes no messages since 14 Mar 12:00 UTC: " in delivery.local.received[0].text

    del delivery.local.refusals[CHAT]
    assert delivery.drain() == Counter(sent=1)
    digest = delivery.local.received[-1]
    first, *lines = digest.text.splitlines()
    assert first == "⏸ No messages were taken here since 14 Mar 12:00 UTC"
    assert lines[0].startswith("🗂 5 alerts in one message")
    assert sum("reason" in line for line in lines) == 4
    assert not digest.silent
    waiting = "SELECT count(*) FROM alert_deliveries WHERE state NOT IN ('sent', 'digested')"
    assert delivery.connection.execute(waiting).fetchone() == (0,)
    assert conditions_now()[f"chat_refuses:{CHAT}"].state is State.well
    delivery.raise_alerts(alert(9, seen_at=delivery.waited.now))
    assert delivery.drain() == Counter(sent=1), "and alerts go out as before"


def test_an_alert_that_cannot_be_written_holds_up_nothing_and_is_named(delivery: Delivery) -> None:
    delivery.raise_alerts(*(alert(n) for n in (1, 2)), *(alert(n, late=True) for n in (3, 4)))
    delivery.drain(timedelta(0))
    delivery.tell(alert(1).alert_key, "also dust", T0)
    delivery.tell(alert(2).alert_key, "also dust", T0 + SECOND)
    delivery.raise_alerts(alert(5, Severity.critical), alert(6))
    broken = [alert(n).alert_key for n in (1, 3, 5)]
    delivery.connection.execute("""UPDATE alerts SET reasons = '[{"kind": 5}]' WHERE alert_key = ANY(%s)""", [broken])
    delivery.drain()
    states = delivery.states()
    assert [states[alert(n).alert_key] for n in range(1, 7)] == ["sent", "sent", "dead", "digested", "dead", "sent"]
    assert "also dust" in delivery.local.received[1].text, "the news behind those that cannot be written"
    named = [link[-1] for m in delivery.local.received for link in m.links if "may not have reached" in m.text]
    assert {"3", "5"} <= set(named)
    assert delivery.drain() == Counter()


def test_a_request_that_fails_unexpectedly_is_named_and_ends_no_delivery(delivery: Delivery) -> None:
    delivery.connection.execute("INSERT INTO channels (channel, quiet_hours) VALUES (%s, '1-2 Nowhere')", [OTHER])
    delivery.raise_alerts(alert(1), chats=(CHAT, OTHER))

    class Broken(TelegramSender):
        async def send(self, chat_id: str, html: str, *, silent: bool = False, buttons: Buttons = ()) -> Outcome:
            if chat_id == CHAT and "reason 1" in html:
                raise ZeroDivisionError(sender_secret)
            return await super().send(chat_id, html, silent=silent, buttons=buttons)

    sender_secret = "1:a"
    delivery.raise_alerts(alert(2, Severity.low), chats=(CHAT, OTHER))

    async def scenario() -> Counter[str]:
        async with Broken(sender_secret, delivery.server.url) as sender:
            dispatcher = delivery.dispatcher(sender, CHAT, OTHER)
            await dispatcher.drain(HOUR)
            return dispatcher.delivered

    assert asyncio.run(scenario()) == Counter(sent=4, unknown=1)
    alone, digest = (m for m in delivery.local.received if m.chat_id == CHAT)
    assert "reason 2" in alone.text
    assert "1 alert may not have reached you" in digest.text
    [(state, reason)] = delivery.connection.execute(
        "SELECT state, reason FROM alert_deliveries WHERE channel = %s AND alert_key = %s", [CHAT, alert(1).alert_key]
    )
    assert (state, reason) == ("uncertain", "the request failed: ZeroDivisionError")


def test_what_befalls_one_channel_ends_the_delivery_to_no_other(delivery: Delivery) -> None:
    delivery.connection.execute("INSERT INTO channels (channel, kind) VALUES ('unreachable', 'apprise')")
    delivery.raise_alerts(alert(1))

    async def scenario() -> None:
        async with TelegramSender("1:a", delivery.server.url) as sender, WebhookPoster(private=True) as poster:
            dispatcher = delivery.dispatcher(sender)
            dispatcher.others = {"webhook": WebhookCarrier(poster)}
            with pytest.raises(WrongChannelError, match="nothing can be sent to 'unreachable'"):
                await dispatcher.drain(HOUR)
            stop = asyncio.Event()
            running = asyncio.create_task(dispatcher.run(stop))
            delivery.raise_alerts(alert(2))
            await eventually(lambda: len(delivery.local.received) >= 2, "the chat is served")
            stop.set()
            await running

    asyncio.run(scenario())
    assert {m.chat_id for m in delivery.local.received} == {CHAT}


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
    assert "total 9,520 sat, fee 1,220 sat (11.0 sat/vB), 1 in → 1 out" in lines
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


@pytest.mark.parametrize("earlier", [SECOND, HOUR], ids=["another transaction committed first", "the clock was ahead"])
def test_news_are_shown_whatever_time_they_bear(delivery: Delivery, earlier: timedelta) -> None:
    delivery.raise_alerts(alert(1))
    delivery.drain()
    key = f"{1:064x}"
    for text, at in (("replaced", T0 + HOUR), ("confirmed", T0 + HOUR - earlier)):
        delivery.tell(key, text, at)
        delivery.waited.now += MINUTE
        assert delivery.drain() == Counter(sent=1), text
        assert text in delivery.local.received[-1].text
    assert delivery.drain() == Counter()


def test_news_of_an_alert_that_stayed_in_the_former_chat_come_as_a_message_of_the_present_one(
    delivery: Delivery,
) -> None:
    delivery.raise_alerts(alert(1), chats=("-5",))
    assert delivery.drain(HOUR, "-5") == Counter(sent=1)
    delivery.local.moved["-5"] = "-1005"
    delivery.tell(alert(1).alert_key, "also dust", T0)
    assert delivery.drain(HOUR, "-5") == Counter(notsent=1, sent=1)
    assert delivery.drain(HOUR, "-5") == Counter(), "once"
    before, after = delivery.local.received
    assert ("also dust" in before.text, "also dust" in after.text) == (False, True)
    assert (after.chat_id, after.silent, after.buttons) == ("-1005", True, BUTTONS)
    delivery.tell(alert(1).alert_key, "also more", T0 + SECOND)
    assert delivery.drain(HOUR, "-5") == Counter(sent=1)
    assert "also more" in delivery.local.received[1].text, "which is edited from then on"
    for number, chat_id, known in ((1, "-5", None), (2, "-1005", alert(1).alert_key), (2, "-5", None)):
        assert record_feedback(delivery.connection, chat_id, number, 5, "useful", T0) == known


@pytest.mark.parametrize("fault", [Fault.accept_then_garbage, Fault.accept_then_hang_up])
def test_news_that_were_sent_as_a_message_and_may_have_arrived_are_not_sent_again(
    delivery: Delivery, fault: Fault
) -> None:
    delivery.raise_alerts(alert(1), chats=("-5",))
    delivery.drain(HOUR, "-5")
    delivery.local.moved["-5"] = "-1005"
    delivery.tell(alert(1).alert_key, "also dust", T0)
    delivery.local.faults.extend([Fault.moved, fault])
    assert delivery.drain(HOUR, "-5") == Counter(notsent=1, unknown=1)
    assert delivery.drain(HOUR, "-5") == Counter()


@pytest.mark.parametrize("named", [("-5",), ("-1005",), ("-5", "-1005"), ("-1005", "-5")])
def test_a_chat_is_served_once_by_whichever_of_its_ids_it_is_named(delivery: Delivery, named: tuple[str, ...]) -> None:
    delivery.local.moved["-5"] = "-1005"
    delivery.raise_alerts(alert(1), chats=("-5",))
    assert delivery.drain(timedelta(0), "-5") == Counter(notsent=1, sent=1), "it is learned when something is sent"
    delivery.connection.execute("UPDATE alert_deliveries SET channel = '-5', state = 'pending'")
    delivery.raise_alerts(alert(2), chats=named)
    assert delivery.drain(HOUR, *named) == Counter(sent=2)
    assert [m.chat_id for m in delivery.local.received] == ["-1005"] * 3
    assert delivery.reply("-5", "hello") == Sent(4)
    assert delivery.local.received[3].chat_id == "-1005"


def test_what_waits_under_an_id_that_the_settings_name_no_more_goes_to_the_present_one(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1), chats=("-5", "-6", "-7"))
    delivery.local.moved |= {"-5": "-1005", "-6": "-1006"}
    assert delivery.drain(HOUR, "-1005") == Counter(sent=1)
    assert [m.chat_id for m in delivery.local.received] == ["-1005"]
    left = "SELECT channel FROM alert_deliveries WHERE state = 'pending' ORDER BY channel COLLATE \"C\""
    assert delivery.connection.execute(left).fetchall() == [("-6",), ("-7",)], "those that were taken out get nothing"


def test_groups_that_nobody_names_are_asked_for_in_turn(delivery: Delivery) -> None:
    delivery.raise_alerts(alert(1), chats=tuple(f"-{n}" for n in range(10, 25)))
    delivery.local.moved["-24"] = "-1005"
    for _ in range(10):
        delivery.drain(HOUR, "-1005")
        delivery.waited.now += SECOND
    assert [m.chat_id for m in delivery.local.received] == ["-1005"]


def test_no_chat_waits_for_groups_that_nobody_names(delivery: Delivery) -> None:
    asked: list[str] = []

    class Slow(TelegramSender):
        async def moved_to(self, chat_id: str) -> str | None:
            asked.append(chat_id)
            await eventually(lambda: delivery.local.received and len(asked) == 3, "a message and all questions")
            return await super().moved_to(chat_id)

    async def drained() -> None:
        async with Slow("1:a", delivery.server.url) as sender:
            await delivery.dispatcher(sender, CHAT).drain(timedelta(0))

    delivery.raise_alerts(alert(1), chats=(CHAT, "-5", "-6", "-7"))
    asyncio.run(asyncio.wait_for(drained(), PATIENCE_SECONDS))
    assert sorted(asked) == ["-5", "-6", "-7"]
    assert [m.chat_id for m in delivery.local.received] == [CHAT]


def test_an_answer_follows_the_chat_that_moves_meanwhile(delivery: Delivery) -> None:
    delivery.local.moved["-5"] = "-1005"
    assert delivery.reply("-5", "hello") == Sent(1)
    assert delivery.local.received[0].chat_id == "-1005"


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
    rows = delivery.connection.execute("SELECT purpose, ended_at FROM channel_requests ORDER BY id").fetchall()
    assert rows == [("alert", T0), ("reply", T0 + SECOND), ("reply", T0 + MINUTE + SECOND)]
    failed = delivery.connection.execute("SELECT failures FROM channels WHERE channel = %s", [OTHER])
    assert failed.fetchone() == (1,), "and the chat is left alone for a while"


def test_an_answer_that_cannot_be_given_for_long_is_left_out(delivery: Delivery) -> None:
    until = T0 + ANSWER_PATIENCE + SECOND
    delivery.connection.execute("INSERT INTO channels (channel, retry_at) VALUES (%s, %s)", [CHAT, until])
    outcome = delivery.reply(CHAT, "x")
    assert isinstance(outcome, NotSent)
    assert "12:05:01" in outcome.reason
    delivery.waited.now += SECOND
    assert delivery.reply(CHAT, "x") == Sent(1)
    assert delivery.waited.seconds == [ANSWER_PATIENCE.total_seconds()]


def test_the_patience_for_an_answer_counts_from_when_it_was_written(delivery: Delivery) -> None:
    written_at = T0 - ANSWER_PATIENCE + SECOND
    outcome = delivery.reply(CHAT, "x", written_at - 2 * SECOND)
    assert isinstance(outcome, NotSent)
    assert "too old" in outcome.reason
    delivery.connection.execute("INSERT INTO channels (channel, retry_at) VALUES (%s, %s)", [CHAT, T0 + 2 * SECOND])
    assert isinstance(delivery.reply(CHAT, "x", written_at), NotSent)
    assert delivery.waited.seconds == [], "nobody waits for what is too old then"
    assert delivery.reply(CHAT, "x", written_at + SECOND) == Sent(1)


def test_who_asks_and_asks_leaves_room_for_alerts(delivery: Delivery) -> None:
    for _ in range(Limits().answers_per_minute):
        assert isinstance(delivery.reply(CHAT, "x"), Sent)
    before = delivery.waited.now
    delivery.raise_alerts(alert(1, seen_at=before))
    assert delivery.drain() == Counter(sent=1)
    assert delivery.waited.now - before == SECOND
    assert isinstance(delivery.reply(CHAT, "x"), Sent)
    assert delivery.waited.now == T0 + MINUTE


def test_a_clock_that_was_ahead_holds_nothing_back_once_it_is_right(delivery: Delivery) -> None:
    delivery.waited.now = T0 + timedelta(days=365)
    delivery.raise_alerts(alert(1, seen_at=delivery.waited.now), chats=(OTHER,))
    assert delivery.drain(HOUR, OTHER) == Counter(sent=1)
    delivery.raise_alerts(alert(2, seen_at=delivery.waited.now))
    delivery.local.faults.append(Fault.server_error)
    assert delivery.drain(SECOND / 2) == Counter(notsent=1)
    delivery.waited.now = T0
    assert delivery.drain(SECOND / 2, limits=Limits(overall_per_second=1)) == Counter(sent=1)
    delivery.waited.now += SECOND
    assert isinstance(delivery.reply(CHAT, "x"), Sent)


def test_an_answer_waits_while_another_process_serves_the_chat(delivery: Delivery) -> None:
    with connect(delivery.database_url) as another:
        another.execute("SELECT 1")
        held = if_free(another, Lock.CHANNEL, CHAT)
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
        "INSERT INTO channels (channel, held_until) VALUES (%s, %s)", [CHAT, T0 + 2.25 * SECOND]
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
