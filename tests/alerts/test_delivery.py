"""Delivery to a real local Telegram from a real Postgres: never doubled, never silently lost, within the limits.

Time is injected, and passes by being slept; the server counts its limits by the same clock.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from tests.alerts.accelerated import ORIGIN, AcceleratedTime
from tests.builders import transaction
from tests.databases import empty_tables
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.alerts.alert import LATE_AFTER, Alert
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.life import insert_chain_updates
from txwatch.alerts.messages import MAX_DIGEST_LINES, MAX_UNITS, units
from txwatch.alerts.planning import BURST, FLOOD_WINDOW
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import (
    Verdict,
    count_alerts,
    insert_alerts,
    insert_updates,
    later_kinds,
    read_precision,
    record_feedback,
)
from txwatch.clock import window_start
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.lab.simulator.telegram import Fault, LocalTelegram, ReceivedMessage
from txwatch.lab.simulator.telegram_rules import FloodControl
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import SpentOutput

TOKEN = "123:secret"
CHAT, GROUP = "42", "-1001"
FACTOR = 300.0
HOUR = timedelta(hours=1)
MINED_AT = ORIGIN + timedelta(minutes=12)


@dataclass
class Telegram:
    """A local Telegram, its server, and the time that both and the dispatchers live in."""

    local: LocalTelegram
    server: TelegramServer
    time: AcceleratedTime
    database_url: str

    def raise_alerts(self, *alerts: Alert, chats: tuple[str, ...] = (CHAT,)) -> None:
        with connect(self.database_url) as connection, connection.transaction():
            insert_alerts(connection, alerts, chats)

    def deliver(self, patience: timedelta = HOUR, *chats: str) -> Counter[str]:
        url = self.server.url
        return asyncio.run(deliver(self.database_url, url, self.time, chats or (CHAT,), patience, PATIENCE_SECONDS))

    def states(self) -> dict[str, str]:
        with connect(self.database_url) as connection:
            return dict(connection.execute("SELECT alert_key, state FROM alert_deliveries").fetchall())

    def reason(self, key: str) -> str:
        with connect(self.database_url) as connection:
            row = connection.execute("SELECT reason FROM alert_deliveries WHERE alert_key = %s", [key]).fetchone()
        return str(row and row[0])

    def naming(self, key: str) -> list[ReceivedMessage]:
        """The messages that link to a transaction."""
        return [m for m in self.local.received if any(link.endswith(key) for link in m.links)]


async def deliver(
    database_url: str,
    telegram_url: str,
    time_: AcceleratedTime,
    chats: tuple[str, ...],
    patience: timedelta,
    answer_seconds: float,
) -> Counter[str]:
    async with TelegramSender(TOKEN, telegram_url, answer_seconds=answer_seconds) as sender:
        dispatcher = Dispatcher(database_url, sender, chats, clock=time_.clock, sleep=time_.sleep)
        await dispatcher.drain(patience)
        return dispatcher.delivered


def deliver_in_a_process(database_url: str, telegram_url: str, time_: AcceleratedTime, answer_seconds: float) -> None:
    asyncio.run(deliver(database_url, telegram_url, time_, (CHAT,), HOUR, answer_seconds))


@pytest.fixture
def telegram(database_url: str) -> Iterator[Telegram]:
    time_ = AcceleratedTime.starting_now(FACTOR)
    local = LocalTelegram(time_.clock, token=TOKEN)
    with connect(database_url) as connection:
        empty_tables(
            connection, "alerts, alert_deliveries, channels, channel_requests, transactions, blocks, confirmations"
        )
    with TelegramServer(local) as server:
        yield Telegram(local, server, time_, database_url)


def alert(
    n: int,
    *,
    severity: Severity = Severity.high,
    late: bool = False,
    seen_at: datetime = ORIGIN,
    text: str = "1,000.00 BTC likely moved",
) -> Alert:
    key = f"{n:064x}"
    return Alert(key, ["whale"], severity, [Reason("whale", text)], late, seen_at, seen_at + timedelta(seconds=1), "3")


def key(n: int) -> str:
    return f"{n:064x}"


def coins(n: int) -> list[SpentOutput]:
    return [SpentOutput(f"address {n}", 10_740, "p2wpkh", 0)]


def mine(connection: Connection, block_hash: str, *txids: str, height: int = 840_000) -> None:
    """Record a block of these transactions, as reading the chain does."""
    connection.execute(
        "INSERT INTO blocks (hash, prev_hash, height, block_time, seen_at, tx_count, fetched_at)"
        " VALUES (%s, 'f', %s, %s, %s, %s, %s)",
        [block_hash, height, MINED_AT, MINED_AT, len(txids), MINED_AT],
    )
    connection.execute(
        "INSERT INTO confirmations (txid, block_hash) SELECT txid, %s FROM unnest(%s::text[]) AS t (txid)",
        [block_hash, list(txids)],
    )


def test_each_alert_arrives_once_and_a_second_delivery_sends_nothing(telegram: Telegram) -> None:
    with connect(telegram.database_url) as connection, connection.transaction():
        land_transactions(connection, [transaction(txid=key(1), seen_at=ORIGIN)])
    telegram.raise_alerts(alert(1), alert(2, severity=Severity.low))
    assert telegram.deliver() == Counter(sent=2)
    telegram.raise_alerts(alert(1), alert(2))
    assert telegram.deliver() == Counter()

    first, second = telegram.local.received
    assert first.text.startswith("🐋 Whale · ")
    assert "total 9,520 sat, fee 1,220 sat (11.0 sat/vB), 1 in → 1 out" in first.text
    assert first.links == (f"https://mempool.space/tx/{key(1)}",)
    assert (first.silent, second.silent, first.previews) == (False, True, False)
    assert telegram.states() == {key(1): "sent", key(2): "sent"}
    with connect(telegram.database_url) as connection:
        row = connection.execute(
            "SELECT attempts, message_id, sent_at FROM alert_deliveries WHERE alert_key = %s", [key(1)]
        ).fetchone()
        [(window, counts)] = count_alerts(connection, ORIGIN, ORIGIN + timedelta(minutes=5)).items()
    assert row is not None
    assert row[:2] == (1, first.message_id)
    assert row[2] >= first.at
    assert window == window_start(ORIGIN)
    assert (counts.alerts, counts.sent, counts.pending) == (2, 2, 0)


def test_without_a_chat_alerts_are_kept_and_nothing_waits(telegram: Telegram) -> None:
    telegram.raise_alerts(alert(1), chats=())
    assert telegram.deliver() == Counter()
    telegram.raise_alerts(alert(1))
    assert telegram.deliver() == Counter(), "a chat that is set up later is not flooded with what was before"


def test_retry_after_is_honoured_by_every_process(telegram: Telegram) -> None:
    telegram.local.faults.append(Fault.too_many)
    telegram.raise_alerts(alert(1))
    assert telegram.deliver(timedelta(seconds=1)) == Counter(notsent=1)
    assert telegram.states() == {key(1): "pending"}
    turned_away = telegram.time.clock()
    assert telegram.deliver() == Counter(sent=1)
    assert telegram.local.received[0].at - turned_away > timedelta(seconds=2)


@pytest.mark.parametrize("fault", [Fault.server_error, Fault.bad_gateway])
def test_an_answer_of_5xx_is_tried_again(telegram: Telegram, fault: Fault) -> None:
    telegram.local.faults.extend([fault, fault])
    telegram.raise_alerts(alert(1))
    assert telegram.deliver() == Counter(notsent=2, sent=1)
    assert len(telegram.local.received) == 1


def test_a_refused_connection_delays_for_a_minute_and_loses_nothing(telegram: Telegram) -> None:
    telegram.raise_alerts(alert(1), alert(2))
    telegram.server.refuse()
    assert telegram.deliver(timedelta(minutes=1))["notsent"] >= 4
    assert telegram.states() == {key(1): "pending", key(2): "pending"}
    assert "ConnectError" in telegram.reason(key(1)) + telegram.reason(key(2))
    telegram.server.accept()
    assert telegram.deliver() == Counter(sent=2)
    assert len(telegram.local.received) == 2


def test_what_became_too_old_while_telegram_was_away_goes_into_one_digest(telegram: Telegram) -> None:
    telegram.raise_alerts(*(alert(n, seen_at=ORIGIN - HOUR) for n in range(30)), alert(99))
    telegram.deliver()
    alone, digest = telegram.local.received
    assert alone.links[0].endswith(key(99))
    assert digest.text.startswith("🗂 30 alerts in one message")
    assert f"… and {30 - MAX_DIGEST_LINES} more" in digest.text
    assert Counter(telegram.states().values()) == Counter(digested=30, sent=1)


def test_late_alerts_never_go_out_as_live(telegram: Telegram) -> None:
    telegram.raise_alerts(*(alert(n, late=True, severity=Severity.critical) for n in range(3)))
    assert telegram.deliver() == Counter(sent=1)
    assert telegram.local.received[0].text.startswith("🗂 3 alerts in one message")
    assert telegram.local.received[0].silent


@pytest.mark.parametrize("fault", [Fault.accept_then_garbage, Fault.accept_then_hang_up])
def test_an_answer_that_says_nothing_leaves_the_alert_uncertain_and_named_once(
    telegram: Telegram, fault: Fault
) -> None:
    telegram.local.faults.append(fault)
    telegram.raise_alerts(alert(1))
    assert telegram.deliver() == Counter(unknown=1, sent=1)
    sent, digest = telegram.naming(key(1))
    assert digest.text.startswith("⚠️ 1 alert may not have reached you")
    assert telegram.states() == {key(1): "uncertain"}
    assert telegram.deliver() == Counter(), "it is named once"
    assert sent is telegram.local.received[0]


def test_a_digest_that_is_itself_uncertain_ends(telegram: Telegram) -> None:
    telegram.local.faults.extend([Fault.accept_then_garbage] * 3)
    telegram.raise_alerts(alert(1))
    telegram.deliver()
    assert telegram.states() == {key(1): "uncertain"}
    assert len(telegram.local.received) == 2, "the alert, and the one digest that names it"


def test_a_time_out_after_the_request_is_uncertain(telegram: Telegram) -> None:
    telegram.local.faults.append(Fault.accept_then_silence)
    telegram.raise_alerts(alert(1))
    outcome = asyncio.run(
        deliver(telegram.database_url, telegram.server.url, telegram.time, (CHAT,), HOUR, answer_seconds=3.0)
    )
    assert outcome == Counter(unknown=1, sent=1)
    assert telegram.states() == {key(1): "uncertain"}


def test_what_telegram_will_never_take_is_dead_with_a_reason_and_named(telegram: Telegram) -> None:
    telegram.local.faults.append(Fault.unreadable)
    telegram.raise_alerts(alert(1), alert(2, seen_at=ORIGIN + timedelta(seconds=1)))
    assert telegram.deliver() == Counter(refused=1, sent=2)
    assert telegram.states() == {key(1): "dead", key(2): "sent"}
    assert "Can't parse entities" in telegram.reason(key(1))
    (digest,) = telegram.naming(key(1))
    assert digest.text.startswith("⚠️ 1 alert may not have reached you")
    assert telegram.deliver() == Counter()


@pytest.mark.parametrize("fault", [Fault.bad_request, Fault.forbidden])
def test_no_alert_is_lost_to_a_chat_that_refuses(telegram: Telegram, fault: Fault) -> None:
    telegram.local.faults.append(fault)
    telegram.raise_alerts(alert(1), alert(2, seen_at=ORIGIN + timedelta(seconds=1)))
    assert telegram.deliver() == Counter(channelrefused=1, sent=1)
    assert telegram.states() == {key(1): "digested", key(2): "digested"}


def test_a_group_that_moved_is_followed(telegram: Telegram) -> None:
    telegram.local.faults.append(Fault.moved)
    telegram.raise_alerts(alert(1), chats=("-5",))
    assert telegram.deliver(HOUR, "-5") == Counter(notsent=1, sent=1)
    assert telegram.local.received[0].chat_id == "-1005"


def test_a_wrong_token_loses_nothing_and_is_never_shown(telegram: Telegram, caplog: pytest.LogCaptureFixture) -> None:
    telegram.local._token = "another"
    telegram.raise_alerts(alert(1))
    with caplog.at_level("DEBUG"):
        telegram.deliver(timedelta(seconds=1))
    assert telegram.states() == {key(1): "pending"}
    assert TOKEN not in telegram.reason(key(1))
    assert not any(TOKEN in record.getMessage() for record in caplog.records if record.name.startswith("txwatch"))


# A quarter of an hour, after which an alert is no news, must be longer than another process takes to start.
@pytest.mark.parametrize("telegram", [5.0], indirect=True)
def test_a_process_killed_between_request_and_record_leaves_it_uncertain(telegram: Telegram) -> None:
    telegram.local.faults.append(Fault.accept_then_silence)
    telegram.raise_alerts(alert(1), alert(2, seen_at=ORIGIN + timedelta(seconds=1)))
    process = multiprocessing.get_context("spawn").Process(
        target=deliver_in_a_process, args=(telegram.database_url, telegram.server.url, telegram.time, PATIENCE_SECONDS)
    )
    process.start()
    wait_until(lambda: telegram.local.silences == 1, "the message was taken and not answered")
    assert telegram.states() == {key(1): "sending", key(2): "pending"}
    assert telegram.deliver(timedelta(seconds=1)) == Counter(), "the lock is held while the request is under way"
    process.kill()
    process.join()

    wait_until(telegram.deliver, "somebody delivers")
    assert telegram.states() == {key(1): "uncertain", key(2): "sent"}
    assert "ended before it knew" in telegram.reason(key(1))
    first, second, digest = telegram.local.received
    assert [m.links[0][-64:] for m in (first, second, digest)] == [key(1), key(2), key(1)]
    assert digest.text.startswith("⚠️ 1 alert may not have reached you")


def test_three_dispatchers_at_once_double_nothing_and_keep_the_limits(telegram: Telegram) -> None:
    chats = (CHAT, GROUP)
    telegram.raise_alerts(*(alert(n, seen_at=ORIGIN + timedelta(seconds=n)) for n in range(BURST)), chats=chats)

    async def three() -> list[Counter[str]]:
        url, database_url = telegram.server.url, telegram.database_url
        return await asyncio.gather(
            *(deliver(database_url, url, telegram.time, chats, HOUR, answer_seconds=PATIENCE_SECONDS) for _ in range(3))
        )

    delivered = asyncio.run(three())
    assert sum(delivered, Counter()) == Counter(sent=2 * BURST)
    arrived = Counter((m.chat_id, m.links[0][-64:]) for m in telegram.local.received)
    assert arrived == Counter((chat, key(n)) for chat in chats for n in range(BURST))
    assert telegram.local.flood_control.exceeded == {}


def test_a_storm_of_ten_thousand_ends_in_a_few_messages_within_the_limits(telegram: Telegram) -> None:
    telegram.raise_alerts(
        *(alert(n, severity=Severity.critical if n < 3 else Severity.medium) for n in range(10_000)), chats=(GROUP,)
    )
    telegram.deliver(HOUR, GROUP)
    assert Counter(telegram.states().values()) == Counter(sent=BURST, digested=10_000 - BURST)
    assert len(telegram.local.received) == BURST + 1
    assert all(telegram.naming(key(n)) for n in range(3)), "the most severe go out by themselves"
    assert telegram.local.flood_control.exceeded == {}


def test_the_limit_of_groups_is_kept(telegram: Telegram) -> None:
    telegram.local.flood_control = FloodControl(telegram.time.clock)
    for round_ in range(3):
        seen = telegram.time.clock()
        telegram.raise_alerts(*(alert(100 * round_ + n, seen_at=seen) for n in range(BURST)), chats=(GROUP,))
        with connect(telegram.database_url) as connection:
            connection.execute("UPDATE channel_requests SET purpose = 'edit'")
        telegram.deliver(HOUR, GROUP)
    assert len(telegram.local.received) == 3 * BURST
    assert telegram.local.flood_control.exceeded == {}
    first, twenty_first = telegram.local.received[0], telegram.local.received[20]
    assert twenty_first.at - first.at >= timedelta(minutes=1)


def test_all_chats_together_keep_the_overall_limit(telegram: Telegram) -> None:
    chats = tuple(str(n) for n in range(1, 61))
    telegram.raise_alerts(alert(1), chats=chats)
    telegram.deliver(HOUR, *chats)
    assert Counter(m.chat_id for m in telegram.local.received) == Counter(chats)
    assert telegram.local.flood_control.exceeded == {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>bold</b> <a href='http://evil'>click</a>", "<b>bold</b> <a href='http://evil'>click</a>"),
        ("&lt;&amp;&#0; unclosed <i", "&lt;&amp;&#0; unclosed <i"),
        ("👩‍👩‍👧‍👦🏴‍☠️e\u0301\u202egnirts desrever\u202c", "👩‍👩‍👧‍👦🏴‍☠️e\u0301gnirts desrever"),
        ("أهلا بالعالم עולם", "أهلا بالعالم עולם"),
        ("x\x00\r\ny", "x\ufffd y"),
        ("🐋<&>" * 3_000, "🐋<&>" * 15),
    ],
)
def test_hostile_and_over_long_text_arrives_as_text(telegram: Telegram, text: str, shown: str) -> None:
    telegram.raise_alerts(alert(1, text=text), alert(2, text=text, late=True))
    assert telegram.deliver() == Counter(sent=2)
    for message in telegram.local.received:
        assert units(message.text) <= MAX_UNITS
        assert "evil" not in "".join(message.links)
        assert "\u202e" not in message.text
        assert shown in message.text


def test_a_muted_chat_gets_what_it_missed_in_a_digest(telegram: Telegram) -> None:
    until, seen_at = ORIGIN + timedelta(minutes=2), ORIGIN - timedelta(minutes=14)
    with connect(telegram.database_url) as connection:
        connection.execute("INSERT INTO channels (channel, held_until) VALUES (%s, %s)", [CHAT, until])
    telegram.raise_alerts(alert(1, seen_at=seen_at), alert(2, severity=Severity.critical))
    assert telegram.deliver(timedelta(seconds=30)) == Counter(sent=1)
    assert telegram.naming(key(2))
    assert telegram.deliver() == Counter(sent=1)
    (digest,) = telegram.naming(key(1))
    assert digest.at >= until
    assert digest.text.startswith("🗂 1 alert in one message")


def test_what_becomes_known_is_written_into_the_message_that_was_sent(telegram: Telegram) -> None:
    with connect(telegram.database_url) as connection, connection.transaction():
        land_transactions(connection, [transaction(txid=key(n), seen_at=ORIGIN, inputs=coins(n)) for n in (1, 2, 3)])
        # It spends what transaction 2 spends, and more.
        bump = transaction(txid=key(7), seen_at=ORIGIN, fee_sat=2_000, inputs=[*coins(8), *coins(2)])
        land_transactions(connection, [bump])
    telegram.raise_alerts(alert(1), alert(2), alert(3, late=True))
    telegram.deliver()
    before = {m.message_id: m for m in telegram.local.received}
    again = replace(alert(1), reasons=[Reason("whale", "x"), Reason("watch_listed", "pays 1abc")])
    with connect(telegram.database_url) as connection, connection.transaction():
        assert insert_updates(connection, later_kinds(again)) == 1, "a whale was named before"
        mine(connection, "f0", key(1), key(3), key(7))
        mine(connection, "f2", height=840_002)
        assert insert_chain_updates(connection, MINED_AT) == 3
        assert insert_chain_updates(connection, MINED_AT) == 0
    telegram.local.faults.append(Fault.server_error)
    assert telegram.deliver() == Counter(notsent=1, sent=2)
    assert telegram.deliver() == Counter()

    after = {m.message_id: m for m in telegram.local.received}
    assert after.keys() == before.keys()
    (first,) = telegram.naming(key(1))[:1]
    lines = first.text.splitlines()
    assert lines[1:3] == [
        "👁 also watch-listed address: pays 1abc",
        "✅ confirmed in block 840,000, 12 min after it was seen",
    ]
    assert "sent 12 min later" not in first.text, "the time at which it was sent stays"
    assert first.buttons == before[first.message_id].buttons != ()
    (second,) = telegram.naming(key(2))
    assert "❌ possibly replaced: 00000000… was confirmed in block 840,000 and seems" in second.text
    assert telegram.local.flood_control.exceeded == {}

    with connect(telegram.database_url) as connection, connection.transaction():
        connection.execute("UPDATE blocks SET stale = true")
        mine(connection, "f1", key(1))
        assert insert_chain_updates(connection, MINED_AT + timedelta(minutes=10)) == 3
    assert telegram.deliver() == Counter(sent=1)
    (first,) = telegram.naming(key(1))
    assert "⚠️ block 840,000 lost a chain split" in first.text


def test_an_edit_that_telegram_refuses_is_given_up(telegram: Telegram) -> None:
    telegram.raise_alerts(alert(1))
    telegram.deliver()
    with connect(telegram.database_url) as connection, connection.transaction():
        mine(connection, "f0", key(1))
        insert_chain_updates(connection, MINED_AT)
    telegram.local.faults.append(Fault.unreadable)
    assert telegram.deliver() == Counter(refused=1)
    assert telegram.deliver() == Counter()
    assert telegram.states() == {key(1): "sent"}


def test_verdicts_become_live_precision(telegram: Telegram) -> None:
    telegram.raise_alerts(alert(1), alert(2), alert(3, late=True))
    telegram.deliver()
    numbers = [m.message_id for n in (1, 2) for m in telegram.naming(key(n))]
    with connect(telegram.database_url) as connection:

        def press(message_id: int, user: int, verdict: Verdict) -> str | None:
            return record_feedback(connection, CHAT, message_id, user, verdict, telegram.time.clock())

        assert press(numbers[0], 5, "noise") == key(1)
        assert press(numbers[0], 5, "useful") == key(1)
        assert press(numbers[1], 5, "noise") == key(2)
        assert press(99, 5, "noise") is None
        (precision,) = read_precision(connection, ORIGIN)
    assert (precision.kind, precision.model_version, precision.judged, precision.useful) == ("whale", "3", 2, 1)
    assert precision.share == 0.5


def test_a_dispatcher_that_runs_sends_what_is_committed_when_it_is_woken(telegram: Telegram) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        async with TelegramSender(TOKEN, telegram.server.url) as sender:
            dispatcher = Dispatcher(
                telegram.database_url, sender, (CHAT,), clock=telegram.time.clock, sleep=telegram.time.sleep
            )
            running = asyncio.create_task(dispatcher.run(stop))
            telegram.raise_alerts(alert(1))
            dispatcher.wake()
            await asyncio.to_thread(wait_until, lambda: dispatcher.delivered["sent"] == 1, "one is sent")
            stop.set()
            await running

    asyncio.run(scenario())
    assert telegram.states() == {key(1): "sent"}


def test_a_dispatcher_outlives_its_database_connection(telegram: Telegram) -> None:
    def cut_off() -> int:
        with connect(telegram.database_url) as connection:
            row = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'txwatch alerts' AND datname = current_database()"
            ).fetchone()
        return int(row[0]) if row else 0

    async def scenario() -> None:
        stop = asyncio.Event()
        async with TelegramSender(TOKEN, telegram.server.url) as sender:
            dispatcher = Dispatcher(
                telegram.database_url, sender, (CHAT,), clock=telegram.time.clock, sleep=telegram.time.sleep
            )
            running = asyncio.create_task(dispatcher.run(stop))
            for n in range(3):
                await asyncio.to_thread(wait_until, lambda: cut_off() > 0, "it is cut off")
                telegram.raise_alerts(alert(n))
                await asyncio.to_thread(wait_until, lambda n=n: bool(telegram.naming(key(n))), "it arrives")
            await asyncio.to_thread(wait_until, lambda: set(telegram.states().values()) == {"sent"}, "all are sent")
            stop.set()
            await running

    asyncio.run(scenario())
    assert len(telegram.local.received) == 3


def test_the_numbers_fit() -> None:
    assert BURST < 20, "a burst alone must not exceed the limit of groups"
    assert FLOOD_WINDOW < LATE_AFTER, "what waits for room must not become late for it"
