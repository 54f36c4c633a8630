"""The bot answers commands and buttons in configured chats only, through the local Telegram."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.builders import transaction
from tests.waiting import wait_until
from txwatch.alerts.bot import AlertBot
from txwatch.alerts.commands import HELP, answer
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.feedback import read_precision
from txwatch.alerts.kinds import Severity
from txwatch.alerts.raising import Alert
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import insert_alerts
from txwatch.clock import utc_now
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.detection.scoring import insert_scores
from txwatch.simulator.telegram import LocalTelegram
from txwatch.simulator.telegram_server import TelegramServer
from txwatch.store.database import Connection, connect
from txwatch.store.landing import land_transactions
from txwatch.store.lease import renew_lease, take_lease

CHAT, STRANGER = "42", "666"
TXID = "ab" * 32


def whale(now: datetime, n: int = 0, severity: Severity = Severity.high) -> Alert:
    reason = Reason("whale", f"{n} BTC <likely> moved")
    return Alert(f"{n:02x}" + TXID[2:], ["whale"], severity, [reason], False, now, now, "3")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        connection.execute(
            "TRUNCATE alerts, telegram_chats, telegram_requests, transactions, transaction_scores CASCADE"
        )
        yield connection


def plain(connection: Connection, text: str, now: datetime | None = None) -> str:
    html = answer(connection, CHAT, text, now or utc_now())
    assert html is not None
    return html


def test_unknown_commands_get_the_help_and_other_text_no_answer(connection: Connection) -> None:
    assert answer(connection, CHAT, "hello", utc_now()) is None
    assert "/status" in plain(connection, "/dance")
    assert len(plain(connection, "/start@txwatch_bot").splitlines()) == len(HELP)


def test_status_says_how_things_are(connection: Connection) -> None:
    now = utc_now()
    assert "nobody follows the feed" in plain(connection, "/status")
    epoch = take_lease(connection, "run 1", now, None)
    renew_lease(connection, epoch, now, now - timedelta(seconds=2))
    insert_alerts(connection, [whale(now)], [CHAT])
    plain(connection, "/mute 30", now)
    plain(connection, "/quiet 22:00-07:00 Europe/Berlin")
    plain(connection, "/least high")
    status = plain(connection, "/status", now)
    assert "the feed is followed, 2.0 s behind" in status
    assert "0 alerts sent; 0 in digests, 1 waiting" in status
    assert f"muted until {now + timedelta(minutes=30):%d %b %H:%M} UTC" in status
    assert "quiet hours 22:00-07:00 Europe/Berlin" in status
    assert "only alerts from high on" in status
    for command in ("/mute off", "/quiet off", "/least low"):
        plain(connection, command)
    assert len(plain(connection, "/status").splitlines()) == 2


@pytest.mark.parametrize("command", ["/mute", "/mute 0x", "/mute 99999999999", "/mute -5", "/quiet late", "/least <b>"])
def test_what_cannot_be_read_changes_nothing_and_is_explained(connection: Connection, command: str) -> None:
    assert plain(connection, command)
    assert connection.execute("SELECT count(*) FROM telegram_chats").fetchone() == (0,)


def test_a_chat_gets_what_reaches_its_least_severity(connection: Connection) -> None:
    plain(connection, "/least high")
    now = utc_now()
    insert_alerts(connection, [whale(now, 1), whale(now, 2, Severity.medium)], [CHAT, "43"])
    rows = connection.execute("SELECT left(alert_key, 2), chat_id FROM alert_deliveries ORDER BY 1, 2").fetchall()
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


@dataclass
class Phone:
    """A person's side of the local Telegram."""

    url: str
    local: LocalTelegram

    def say(self, chat: str, text: str) -> None:
        self._update({"message": {"message_id": 900, "date": 0, "chat": self._chat(chat), "text": text}})

    def press(self, chat: str, message_id: int, data: str) -> None:
        message = {"message_id": message_id, "date": 1, "chat": self._chat(chat), "text": "x"}
        person = {"id": 5, "is_bot": False, "first_name": "A"}
        query = {"id": "77", "from": person, "chat_instance": "1", "message": message, "data": data}
        self._update({"callback_query": query})

    def _update(self, update: dict[str, Any]) -> None:
        httpx.post(f"{self.url}/update", json=update).raise_for_status()

    def _chat(self, chat: str) -> dict[str, Any]:
        return {"id": int(chat), "type": "private"}


@contextmanager
def phone() -> Iterator[Phone]:
    local = LocalTelegram()
    with TelegramServer(local) as server:
        yield Phone(server.url, local)


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
