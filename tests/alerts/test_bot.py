"""The bot answers commands and buttons in configured chats only, through the local Telegram."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.builders import transaction
from tests.databases import empty_tables
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.alerts.alert import Alert
from txwatch.alerts.bot import NOT_DONE, AlertBot, record_bot_status
from txwatch.alerts.commands import HELP, answer
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.health import Condition, State, conditions, read_health
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import insert_alerts, read_precision, record_verdict
from txwatch.alerts.transport import MAX_PAUSE_SECONDS, _readable
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.detection.score_windows import insert_scores
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.store.database import Connection, connect, statement
from txwatch.store.lease import renew_lease, take_lease
from txwatch.store.transactions import land_transactions

CHAT, STRANGER = "42", "666"
TXID = "ab" * 32


def whale(now: datetime, n: int = 0, severity: Severity = Severity.high) -> Alert:
    reason = Reason("whale", f"{n} BTC <likely> moved")
    return Alert(f"{n:02x}" + TXID[2:], ["whale"], severity, [reason], False, now, now, "3")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, channels, channel_requests, transactions, transaction_scores")
        yield connection


def plain(connection: Connection, text: str, now: datetime | None = None) -> str:
    html = answer(connection, CHAT, text, now or utc_now())
    assert html is not None
    return html


def test_unknown_commands_get_the_help_and_other_text_no_answer(connection: Connection) -> None:
    assert answer(connection, CHAT, "hello", utc_now()) is None
    assert "/status" in plain(connection, "/dance")
    assert len(plain(connection, "/start@txwatch_bot").splitlines()) == len(HELP)


def test_status_says_how_useful_alerts_were_also_without_a_model(connection: Connection) -> None:
    now = utc_now()
    insert_alerts(connection, [whale(now), replace(whale(now, 1), model_version=None)], [])
    for n in (0, 1):
        assert record_verdict(connection, whale(now, n).alert_key, "useful", now, "key:owner")
    status = plain(connection, "/status", now)
    assert "whale, model 3: 1 of 1 judged useful (100%)" in status
    assert "whale, rules only: 1 of 1 judged useful (100%)" in status


def test_status_says_how_things_are(connection: Connection) -> None:
    now = utc_now()
    assert "nobody follows the feed" in plain(connection, "/status")
    epoch = take_lease(connection, "run 1", now, None)
    renew_lease(connection, epoch, now, now - timedelta(seconds=2))
    insert_alerts(connection, [whale(now)], [CHAT])
    plain(connection, "/mute 30", now)
    plain(connection, "/quiet 22:00-07:00 Europe/Berlin")
    plain(connection, "/least high")
    plain(connection, "/kinds whale, rule:big")
    plain(connection, "/digest 60")
    status = plain(connection, "/status", now)
    assert "the feed is followed, 2.0 s behind" in status
    assert "0 alerts sent; 0 in digests, 1 waiting" in status
    assert f"muted until {now + timedelta(minutes=30):%d %b %H:%M} UTC" in status
    assert "quiet hours 22:00-07:00 Europe/Berlin" in status
    assert "only alerts from high on" in status
    assert "only alerts of whale, rule:big" in status
    assert "a digest every 60 minutes" in status
    for command in ("/mute off", "/quiet off", "/least low", "/kinds all", "/digest off"):
        plain(connection, command)
    assert len(plain(connection, "/status").splitlines()) == 2


@pytest.mark.parametrize(
    "command",
    [
        "/mute",
        "/mute 0x",
        "/mute 99999999999",
        "/mute -5",
        "/quiet late",
        "/least <b>",
        "/kinds <b>",
        "/kinds",
        "/digest 4",
        "/digest x",
    ],
)
def test_what_cannot_be_read_changes_nothing_and_is_explained(connection: Connection, command: str) -> None:
    assert plain(connection, command)
    assert connection.execute("SELECT count(*) FROM channels").fetchone() == (0,)


def test_a_chat_gets_what_reaches_its_least_severity(connection: Connection) -> None:
    plain(connection, "/least high")
    now = utc_now()
    insert_alerts(connection, [whale(now, 1), whale(now, 2, Severity.medium)], [CHAT, "43"])
    rows = connection.execute("SELECT left(alert_key, 2), channel FROM alert_deliveries ORDER BY 1, 2").fetchall()
    assert rows == [("01", "42"), ("01", "43"), ("02", "43")]


def test_top_names_the_most_severe_first(connection: Connection) -> None:
    assert plain(connection, "/top") == "No alerts in the last day."
    now = utc_now()
    insert_alerts(
        connection, [whale(now, 1), whale(now, 2, Severity.critical), whale(now - 2 * timedelta(days=1), 3)], []
    )
    lines = plain(connection, "/top").splitlines()
    assert [line.split("…")[0][-8:-6] for line in lines[1:]] == ["02", "01"]
    assert "&lt;likely&gt;" in lines[1]


def test_why_explains_a_score_by_txid_or_its_beginning(connection: Connection) -> None:
    now = utc_now()
    reason = Reason("forest", "fee rate of <900> sat/vB", "fee_rate", 900.0, 99.0)
    with connection.transaction():
        land_transactions(connection, [transaction(txid=TXID, seen_at=now)])
        insert_scores(connection, [Score(TXID, now, 0.71234, 0.6, True, [reason])], "3", 7, lane="window")
    for argument in (TXID, TXID[:8], TXID[:8].upper()):
        text = plain(connection, f"/why {argument}")
        assert "score 0.712, threshold 0.600 · model 3, context 7" in text
        assert "• fee rate of &lt;900&gt; sat/vB" in text
    assert "No such transaction" in plain(connection, f"/why {'cd' * 32}")
    assert "first 8 digits" in plain(connection, "/why '; DROP TABLE alerts")


@pytest.mark.parametrize("minutes", ["0000019999999", "10081", "1e3", "٣٠", "9" * 5_000, "00", "-1"])
def test_nobody_mutes_for_longer_than_a_week(connection: Connection, minutes: str) -> None:
    assert "1 to 10080" in plain(connection, f"/mute {minutes}")
    assert connection.execute("SELECT count(*) FROM channels").fetchone() == (0,)


def test_a_mute_counts_from_when_it_was_said(connection: Connection) -> None:
    now = utc_now()
    held_until = "SELECT held_until FROM channels"

    def muted(text: str, said_at: datetime) -> str:
        return str(answer(connection, CHAT, text, now, said_at))

    assert "Only critical alerts" in muted("/mute 60", now - timedelta(minutes=50))
    assert connection.execute(held_until).fetchone() == (now + timedelta(minutes=10),)
    assert "were over" in muted("/mute 60", now - timedelta(minutes=61))
    assert "muted until" not in plain(connection, "/status", now)
    assert "Only critical alerts" in muted("/mute 60", now + timedelta(days=99))
    assert connection.execute(held_until).fetchone() == (now + timedelta(minutes=60),), "nobody speaks in the future"


@dataclass
class Phone:
    """A person's side of the local Telegram."""

    url: str
    local: LocalTelegram

    def say(self, chat: str, text: str, *, update_id: int | None = None, **message: object) -> None:
        now = int(utc_now().timestamp())
        said = {"message_id": 900, "date": now, "chat": self._chat(chat), "text": text, "from": PERSON}
        self.update({"message": said | message} | ({} if update_id is None else {"update_id": update_id}))

    def press(self, chat: str, message_id: int, data: str, query: str = "77", user: int = 5) -> None:
        message = {"message_id": message_id, "date": 1, "chat": self._chat(chat), "text": "x"}
        pressed = {"id": query, "from": PERSON | {"id": user}, "chat_instance": "1", "message": message, "data": data}
        self.update({"callback_query": pressed})

    def update(self, update: dict[str, Any]) -> None:
        httpx.post(f"{self.url}/update", json=update, timeout=PATIENCE_SECONDS).raise_for_status()

    def _chat(self, chat: str) -> dict[str, Any]:
        if chat.startswith("@"):
            return {"id": -1007, "type": "supergroup", "username": chat[1:]}
        return {"id": int(chat), "type": "supergroup" if chat.startswith("-") else "private"}


PERSON = {"id": 5, "is_bot": False, "first_name": "A"}


@contextmanager
def phone() -> Iterator[Phone]:
    local = LocalTelegram()
    with TelegramServer(local) as server:
        yield Phone(server.url, local)


@contextmanager
def listening(database_url: str, *chats: str) -> Iterator[Phone]:
    """A bot that listens in these chats, in a thread of its own, whose pauses are short; and who talks to it."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def briefly(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))

    with phone() as person:
        bot = AlertBot(database_url, "1:a", chats, person.url, sleep=briefly)
        thread = threading.Thread(target=lambda: loop.run_until_complete(bot.run(stop)))
        thread.start()
        try:
            yield person
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
            loop.close()


def answered(person: Phone, chat: str, beginning: str) -> None:
    """Wait until the newest message in a chat begins so."""

    def newest() -> str:
        return next((m.text for m in reversed(person.local.received) if m.chat_id == chat), "")

    wait_until(lambda: newest().startswith(beginning), f"{beginning} in {chat}")


def test_a_button_that_was_pressed_while_nobody_listened_holds_up_nothing(
    database_url: str, connection: Connection
) -> None:
    now = utc_now()
    insert_alerts(connection, [whale(now)], [CHAT])
    connection.execute("UPDATE alert_deliveries SET state = 'sent', message_id = 1")
    with listening(database_url, CHAT) as person:
        person.local.old_queries.add("1")
        person.press(CHAT, 1, "useful", query="1")
        person.say(CHAT, "/status")
        answered(person, CHAT, "Status")
        assert person.local.answered_callbacks == []
    (precision,) = read_precision(connection, now)
    assert precision.useful == 1, "the verdict counts all the same"


def test_the_pause_of_a_chat_holds_up_no_other_chat(database_url: str, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO channels (channel, failures, retry_at) VALUES (%s, 1, now() + interval '1386 seconds')",
        [CHAT],
    )
    with listening(database_url, CHAT, "43") as person:
        person.say(CHAT, "/status")
        person.say(CHAT, "/mute 30")
        person.say("43", "/status")
        answered(person, "43", "Status")
        assert {m.chat_id for m in person.local.received} == {"43"}
    muted = connection.execute("SELECT held_until > now() FROM channels WHERE channel = %s", [CHAT])
    assert muted.fetchone() == (True,), "what it asks for is done at once"


GARBAGE: list[dict[str, Any]] = [
    {},
    {"something_new": {"of": "Telegram's"}},
    {"message": "x"},
    {"message": {"message_id": 1}},
    {"message": {"message_id": 1, "date": 10**18, "chat": {"id": 42, "type": "private"}, "text": "/status"}},
    {"message": {"message_id": 1, "date": 1, "chat": {"id": 42, "type": "private"}, "photo": [{}]}},
    {"callback_query": {"id": 1}},
    {"callback_query": {"id": "1", "from": {"id": 5}, "chat_instance": "1", "data": "useful"}},
]


def test_what_cannot_be_read_or_handled_is_left_behind(database_url: str, connection: Connection) -> None:
    with listening(database_url, CHAT) as person:
        for update in GARBAGE:
            person.update(update)
        person.press(CHAT, 2**70, "useful")
        person.press(CHAT, 1, "useful", user=2**70)
        person.press(CHAT, 1, "x" * 10_000)
        person.say(CHAT, "/why " + "\x00" * 4_000)
        person.say(CHAT, "/quiet 22:00-07:00 " + "../" * 1_300)
        person.say(CHAT, "/" + " x" * 2_000)
        person.say(CHAT, "/least high")
        wait_until(lambda: connection.execute("SELECT 1 FROM channels WHERE min_severity = 'high'").fetchone(), "done")


@pytest.mark.parametrize("condition", ["check_violation", "deadlock_detected"])
def test_who_asks_for_what_fails_is_told(database_url: str, connection: Connection, condition: str) -> None:
    """Skipped without a word it would be taken for done."""
    connection.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{condition}', MESSAGE = 'no'; END $$"
    )
    connection.execute(
        "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON channels FOR EACH ROW WHEN (NEW.min_severity = 'high')"
        " EXECUTE FUNCTION fail()"
    )
    try:
        with listening(database_url, CHAT) as person:
            person.say(CHAT, "/least high")
            answered(person, CHAT, NOT_DONE)
            person.say(CHAT, "/least critical")
            answered(person, CHAT, "From now on alerts from critical on")
    finally:
        connection.execute("DROP FUNCTION fail CASCADE")


def test_after_a_quiet_week_updates_have_any_number_and_each_is_handled_once(database_url: str) -> None:
    with listening(database_url, CHAT) as person:
        for number in (900_000_001, 500, 77):
            person.say(CHAT, "/least high", update_id=number)
            wait_until(lambda: not person.local._updates, f"{number} is acknowledged")
        person.say(CHAT, "/status")
        answered(person, CHAT, "Status")
    assert [m.text.split()[0] for m in person.local.received] == ["From"] * 3 + ["Status"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>log in to this network</html>"),
        (200, b'{"ok":true,"result":[{"update_id":1,'),
        (200, b'{"ok":true,"result":{"update_id":1}}'),
        (200, b'{"ok":true}'),
        (302, b""),
        (401, b'{"ok":false,"description":"Unauthorized"}'),
        (429, b'{"ok":false,"parameters":{"retry_after":99999999999999}}'),
        (502, b"<html>Bad Gateway</html>"),
    ],
)
def test_a_bot_that_is_given_no_updates_says_so_and_goes_on(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    # It says so once: in the day that 429 asks for it would hundreds of times.
    monkeypatch.setattr("txwatch.alerts.bot.NOTE_SECONDS", MAX_PAUSE_SECONDS)
    empty_tables(connection, "telegram_bot")
    with listening(database_url, CHAT) as person:
        person.say(CHAT, "/status")
        answered(person, CHAT, "Status")
        person.local.answers_with = (status, body)
        person.update({"message": None})  # ends the poll that waits
        wait_until(
            lambda: connection.execute("SELECT 1 FROM telegram_bot WHERE reason IS NOT NULL").fetchone(), "noted"
        )
        person.local.answers_with = None
        person.say(CHAT, "/top")
        answered(person, CHAT, "No alerts")
    assert connection.execute("SELECT deaf_since FROM telegram_bot").fetchone() == (None,)


def test_an_update_without_a_number_is_left_out() -> None:
    numbers: list[Any] = [1, None, "2", 3.5, True, -3, 0, 4]
    body = msgspec.json.encode({"ok": True, "result": [{"update_id": n} for n in numbers] + ["x"]})
    assert msgspec.json.decode(_readable(body))["result"] == [{"update_id": 1}, {"update_id": 4}]


GOOD = b'{"update_id":5,"message":{"message_id":1,"date":1,"chat":{"id":42,"type":"private"},"text":"}[\\"/top"}}'


@pytest.mark.parametrize(
    "content",
    [
        rb'{"message_id":1,"date":1,"chat":{"id":42,"type":"private"},"text":"/why \ud800"}',
        rb'{"\ud800":1}',
        b'{"message_id":1,"date":1,"chat":{"id":42,"type":"private"},"text":"\xff"}',
        b'{"message_id":1,"date":1e400,"chat":{"id":42,"type":"private"}}',
        b'{"message_id":1,"date":NaN,"chat":{"id":42,"type":"private"}}',
        b'{"reply_to_message":' * 3_000 + b"{}" + b"}" * 3_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
@pytest.mark.parametrize("form", [b'{"update_id":6,"message":%s}', b'{"message":%s,"update_id":6}'])
def test_an_update_that_no_decoder_takes_spoils_no_other(content: bytes, form: bytes) -> None:
    batch = b'{"ok":true,"result":[' + GOOD + b"," + form % content + b"," + GOOD + b"]}"
    first, spoilt, last = msgspec.json.decode(_readable(batch))["result"]
    assert first == last == msgspec.json.decode(GOOD)
    assert spoilt == {"update_id": 6}


def test_only_administrators_of_a_group_change_what_it_gets(database_url: str, connection: Connection) -> None:
    group = "-1005"
    with listening(database_url, group) as person:
        for number, command in enumerate(
            ("/mute 30", "/quiet 22:00-07:00", "/least critical", "/kinds whale", "/digest 60")
        ):
            person.say(group, command)
            wait_until(lambda n=number: len(person.local.received) > n, "it is answered")
            answered(person, group, "Only administrators")
        person.say(group, "/mute 30", sender_chat={"id": -1009, "type": "channel"})
        person.say(group, "/status")
        answered(person, group, "Status")
        untouched = (
            "SELECT 1 FROM channels WHERE num_nonnulls(held_until, quiet_hours, min_severity, kinds, digest_every) > 0"
        )
        assert connection.execute(untouched).fetchone() is None
        person.local.administrators.add(5)
        person.say(group, "/least critical")
        answered(person, group, "From now on alerts from critical on")
        person.say(group, "/mute 30", sender_chat={"id": int(group), "type": "supergroup"})
        answered(person, group, "🔕 Only critical alerts")


def test_a_chat_about_which_telegram_answers_late_holds_up_no_other(database_url: str) -> None:
    group = "-1005"
    with listening(database_url, group, "43") as person:
        person.local.administrators.add(5)
        person.local.slow_chats.add(group)
        person.say(group, "/least critical")
        person.say(group, "/status")
        for _ in range(3):
            person.say("43", "/status")
        wait_until(lambda: len(person.local.received) == 3, "the other chat is answered")
        assert {m.chat_id for m in person.local.received} == {"43"}
        person.local.slow_chats.clear()
        answered(person, group, "Status")
        person.update({"message": None})  # ends the poll that waits; the next one acknowledges
        wait_until(lambda: not person.local._updates, "all are acknowledged")
        assert [m.text.startswith("Status") for m in person.local.received if m.chat_id == group] == [False, True]
        assert len(person.local.received) == 5, "each is handled once, and those of a chat in their order"


def test_a_command_for_another_bot_is_left_to_it(database_url: str, connection: Connection) -> None:
    group = "-1005"
    with listening(database_url, group) as person:
        person.local.administrators.add(5)
        for command in ("/mute@other_bot 60", "/ban@other_bot @somebody", "/least@TXWATCH_BOT high"):
            person.say(group, command)
        answered(person, group, "From now on alerts from high on")
        assert len(person.local.received) == 1
    assert connection.execute("SELECT held_until FROM channels").fetchone() == (None,)


def test_a_chat_is_known_by_any_of_its_ids_and_by_its_name_in_any_case(
    database_url: str, connection: Connection
) -> None:
    with listening(database_url, "-5", "@name", "@none") as person:
        person.local.administrators.add(5)
        person.say("777", "/least low")  # a stranger, who has no name
        person.say("@NAME", "/least high")
        answered(person, "@name", "From now on")
        person.say("-5", "", migrate_to_chat_id=-1005)
        person.say("-1005", "/least critical")
        answered(person, "-1005", "From now on")
        person.say("-666", "", migrate_to_chat_id=-1006)
        person.say("@NAME", "/status")
        answered(person, "@name", "Status")
    chats = connection.execute('SELECT channel, moved_to, min_severity FROM channels ORDER BY channel COLLATE "C"')
    assert chats.fetchall() == [("-1005", None, "critical"), ("-5", "-1005", None), ("@name", None, "high")]


def test_a_webhook_is_a_condition_and_not_a_line_in_a_log(database_url: str, connection: Connection) -> None:
    empty_tables(connection, "telegram_bot")

    def condition() -> Condition:
        now = utc_now()
        found = conditions(read_health(connection, Path.cwd(), now, (CHAT,)), now)
        return next(one for one in found if one.name == "bot_hears_nothing")

    assert condition().state is State.unknown, "nobody runs a bot"
    with listening(database_url, CHAT) as person:
        person.local.webhook = "https://elsewhere.example/hook"
        person.say(CHAT, "/status")  # ends the poll that may be under way
        wait_until(
            lambda: connection.execute("SELECT 1 FROM telegram_bot WHERE reason IS NOT NULL").fetchone(), "noted"
        )
        assert condition().state is State.unknown, "for a moment it says nothing"
        connection.execute("UPDATE telegram_bot SET deaf_since = deaf_since - interval '2 minutes'")
        wait_until(lambda: condition().state is State.wrong, "it has stood for some time")
        assert "webhook is active" in condition().text
        person.local.webhook = ""
        person.say(CHAT, "/status")  # ends the poll that waits
        wait_until(lambda: condition().state is State.well, "it hears again")


def test_deafness_that_began_while_the_clock_was_ahead_is_told_once_it_is_right(connection: Connection) -> None:
    empty_tables(connection, "telegram_bot")
    now = utc_now()
    for moment in (now + timedelta(days=365), now, now + timedelta(minutes=2)):
        record_bot_status(connection, moment, "a webhook is active")
    health = read_health(connection, Path.cwd(), now, (CHAT,))
    [told] = [one for one in conditions(health, now + timedelta(minutes=2)) if one.name == "bot_hears_nothing"]
    assert (told.state, told.since) == (State.wrong, now)


def test_that_it_hears_again_is_noted_once_the_database_takes_it(database_url: str, connection: Connection) -> None:
    empty_tables(connection, "telegram_bot")
    with listening(database_url, CHAT) as person:
        person.local.webhook = "https://elsewhere.example/hook"
        person.say(CHAT, "/status")  # ends the poll that may be under way
        wait_until(
            lambda: connection.execute("SELECT 1 FROM telegram_bot WHERE reason IS NOT NULL").fetchone(), "noted"
        )
        connection.execute("ALTER TABLE telegram_bot RENAME TO telegram_bot_away")
        try:
            person.local.webhook = ""
            person.say(CHAT, "/top")
            answered(person, CHAT, "No alerts")
        finally:
            connection.execute("ALTER TABLE telegram_bot_away RENAME TO telegram_bot")
        person.say(CHAT, "/least high")
        answered(person, CHAT, "From now on")
    assert connection.execute("SELECT deaf_since FROM telegram_bot").fetchone() == (None,)


def test_a_bot_that_gets_updates_is_seen_to_run(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.alerts.bot.HEARD_SECONDS", 0)
    empty_tables(connection, "telegram_bot")

    def heard() -> float | None:
        counts = connection.execute(statement("queries", "system_counts"), {"now": utc_now()})
        return next((value for metric, _, value in counts if metric == "bot"), None)

    assert heard() is None, "no bot ever ran"
    with listening(database_url, CHAT) as person:
        person.say(CHAT, "/status")  # which no poll has to be waited for to its end
        wait_until(heard, "the first record")
        first = heard()
        person.say(CHAT, "/status")
        wait_until(lambda: heard() != first, "a later record")
    record_bot_status(connection, utc_now(), "a webhook is set")
    assert heard() is None, "that it hears nothing is a condition of its own"


def test_a_bot_that_is_told_to_wait_for_hours_keeps_saying_why(database_url: str, connection: Connection) -> None:
    empty_tables(connection, "telegram_bot")
    rests: list[float] = []
    notes: set[datetime] = set()
    stop = asyncio.Event()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        notes.update(noted for (noted,) in connection.execute("SELECT noted_at FROM telegram_bot WHERE reason <> ''"))
        if sum(rests) >= 7_250:
            stop.set()
        await asyncio.sleep(0)

    with phone() as person:
        person.local.answers_with = (429, b'{"ok":false,"parameters":{"retry_after":7250}}')
        asyncio.run(AlertBot(database_url, "1:a", (CHAT,), person.url, sleep=rest).run(stop))
    assert rests[:25] == [300.0] * 24 + [50.0]
    assert len(notes) >= 25, "each rest begins with a note"


@pytest.mark.usefixtures("connection")
def test_answers_that_waited_too_long_for_others_are_left_out(database_url: str) -> None:
    async def scenario(url: str) -> None:
        stop, bot = asyncio.Event(), AlertBot(database_url, "1:a", (CHAT,), url)
        for age, text in ((timedelta(minutes=6), "old"), (timedelta(0), "new")):
            bot._answers[CHAT].put_nowait((utc_now() - age, text))
        running = asyncio.create_task(bot.run(stop))
        await asyncio.to_thread(wait_until, lambda: person.local.received, "the new one has arrived")
        stop.set()
        await running

    with phone() as person:
        asyncio.run(scenario(person.url))
        assert [m.text for m in person.local.received] == ["new"]


def test_the_bot_answers_its_chats_and_ignores_strangers(database_url: str, connection: Connection) -> None:
    now = utc_now()
    insert_alerts(connection, [whale(now)], [CHAT])

    async def scenario(phone: Phone) -> None:
        async with TelegramSender("1:a", phone.url) as sender:
            await Dispatcher(database_url, sender, (CHAT,)).drain(timedelta(seconds=5))
        stop = asyncio.Event()
        bot = asyncio.create_task(AlertBot(database_url, "1:a", (CHAT,), phone.url).run(stop))
        (alert,) = phone.local.received
        assert alert.buttons == (("👍 useful", "useful"), ("👎 noise", "noise"))
        await asyncio.to_thread(phone.press, STRANGER, alert.message_id, "noise")
        await asyncio.to_thread(phone.say, STRANGER, "/status")
        await asyncio.to_thread(phone.press, CHAT, alert.message_id, "noise")
        await asyncio.to_thread(phone.say, CHAT, "/top")
        await asyncio.to_thread(wait_until, lambda: len(phone.local.received) == 2, "both answers have arrived")
        stop.set()
        await bot

    with phone() as person:
        asyncio.run(scenario(person))
        assert [m.chat_id for m in person.local.received] == [CHAT, CHAT]
        assert person.local.received[1].text.startswith("Top of the last day")
        assert person.local.answered_callbacks == [("77", "That is no alert of mine."), ("77", "Noted: noise.")]
        assert person.local.flood_control.exceeded == {}
    (precision,) = read_precision(connection, now)
    assert (precision.judged, precision.useful) == (1, 0)
