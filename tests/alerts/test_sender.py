"""What the sender says of each answer that Telegram may give. Only what certainly did not arrive may be sent again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest

from tests.builders import T0
from txwatch.alerts.sender import TelegramSender
from txwatch.channels.outcomes import ChannelRefused, NotSent, Outcome, Refused, Sent, Unknown
from txwatch.lab.simulator.telegram import Fault, LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer

TOKEN = "123:secret"
BUTTONS = (("👍", "useful"), ("👎", "noise"))


@dataclass
class Telegram:
    local: LocalTelegram
    server: TelegramServer

    def ask(self, request: Callable[[TelegramSender], Awaitable[Outcome]], answer_seconds: float = 5.0) -> Outcome:
        async def asked() -> Outcome:
            # An address is often written with a slash at its end.
            async with TelegramSender(TOKEN, f"{self.server.url}/", answer_seconds=answer_seconds) as sender:
                return await request(sender)

        return asyncio.run(asked())

    def send(self, fault: Fault | None = None, answer_seconds: float = 5.0) -> Outcome:
        self.local.faults.extend([fault] if fault else [])
        return self.ask(lambda sender: sender.send("42", "<b>hello</b>"), answer_seconds)

    def edit(self, html: str, fault: Fault | None = None, number: int = 1) -> Outcome:
        self.local.faults.extend([fault] if fault else [])
        return self.ask(lambda sender: sender.edit("42", number, html, buttons=BUTTONS))


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Telegram]:
    # As in a process that has made no sender yet.
    monkeypatch.delenv("PTB_TIMEDELTA", raising=False)
    caplog.set_level("NOTSET", logger="httpx")
    # Each look at the clock is a minute later: this is not about Telegram's limits.
    minutes = count()
    local = LocalTelegram(lambda: T0 + next(minutes) * timedelta(minutes=1), token=TOKEN)
    with TelegramServer(local) as server:
        yield Telegram(local, server)


def test_a_message_arrives_with_its_form(telegram: Telegram) -> None:
    assert telegram.send() == Sent(1)
    assert telegram.ask(lambda sender: sender.send("42", "x", silent=True, buttons=BUTTONS)) == Sent(2)
    first, second = telegram.local.received
    assert (first.chat_id, first.text, first.html) == ("42", "hello", "<b>hello</b>")
    assert (first.silent, first.buttons, first.previews) == (False, (), False)
    assert (second.silent, second.buttons) == (True, BUTTONS)


def test_an_edit_changes_the_text_and_the_buttons_and_may_be_repeated(telegram: Telegram) -> None:
    telegram.send()
    assert telegram.edit("<i>more</i>") == Sent(1)
    assert telegram.edit("<i>more</i>") == Sent(1), "what is shown already counts as done"
    (message,) = telegram.local.received
    assert (message.text, message.buttons, message.previews) == ("more", BUTTONS, False)
    assert telegram.ask(lambda sender: sender.edit("42", 1, "less")) == Sent(1)
    (message,) = telegram.local.received
    assert (message.text, message.buttons) == ("less", ())
    missing = telegram.edit("x", number=99)
    assert isinstance(missing, Refused)
    assert "not found" in missing.reason


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.server_error, NotSent, "Internal Server Error"),
        (Fault.bad_gateway, NotSent, "Bad Gateway"),
        (Fault.too_many, NotSent, "Flood control exceeded"),
        (Fault.moved, NotSent, "became a supergroup"),
        (Fault.forbidden, ChannelRefused, "blocked by the user"),
        (Fault.bad_request, ChannelRefused, "Chat not found"),
        (Fault.unreadable, Refused, "Can't parse entities"),
        (Fault.accept_then_garbage, Unknown, "TelegramError: Invalid server response"),
        (Fault.accept_then_nonsense, Unknown, "Error: "),
        (Fault.accept_then_hang_up, Unknown, "NetworkError: "),
    ],
)
def test_each_answer_says_whether_it_may_have_arrived(
    telegram: Telegram, fault: Fault, kind: type[Outcome], words: str
) -> None:
    telegram.local.received.clear()
    outcome = telegram.send(fault)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Sent)
    assert words in outcome.reason
    assert bool(telegram.local.received) is isinstance(outcome, Unknown)
    telegram.send()
    edited = telegram.edit("other", fault, number=len(telegram.local.received))
    assert type(edited) is kind
    assert not isinstance(edited, Sent)
    assert words in edited.reason


@pytest.mark.parametrize(
    ("status", "said", "sent", "edited"),
    [
        (400, "Bad Request: not enough rights to send text messages to the chat", ChannelRefused, ChannelRefused),
        (400, "Bad Request: TOPIC_CLOSED", ChannelRefused, ChannelRefused),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN", ChannelRefused, ChannelRefused),
        (403, "Forbidden: bot was kicked from the supergroup chat", ChannelRefused, ChannelRefused),
        (403, "Forbidden: user is deactivated", ChannelRefused, ChannelRefused),
        (403, "<html><title>403</title>Your proxy</html>", ChannelRefused, ChannelRefused),
        (400, "Bad Request: words that nobody knows", ChannelRefused, Refused),
        (400, "Bad Request: message is too long", Refused, Refused),
        (400, "Bad Request: BUTTON_DATA_INVALID", Refused, Refused),
        (400, "Bad Request: message can't be edited", Refused, Refused),
        (403, "Forbidden: MESSAGE_AUTHOR_REQUIRED", Refused, Refused),
    ],
)
def test_a_refusal_is_of_the_chat_or_of_the_message(
    telegram: Telegram, status: int, said: str, sent: type[Outcome], edited: type[Outcome]
) -> None:
    telegram.send()
    telegram.local.refusals["42"] = (status, said)
    assert type(telegram.send()) is sent
    assert type(telegram.edit("other")) is edited


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry_after"),
    [
        (429, b'{"ok":false,"parameters":{"retry_after":1386}}', NotSent, timedelta(seconds=1386)),
        (429, b'{"ok":false,"parameters":{"retry_after":99999999999999}}', NotSent, timedelta(days=1)),
        (429, b'{"ok":false,"parameters":{"retry_after":' + b"9" * 400 + b"}}", NotSent, timedelta(days=1)),
        (429, b'{"ok":false,"parameters":{"retry_after":-5}}', NotSent, None),
        (429, b'{"ok":false,"parameters":{"retry_after":"soon"}}', NotSent, None),
        (429, b'{"ok":false,"parameters":{"retry_after":5.5}}', NotSent, timedelta(seconds=6)),
        (429, b'{"ok":false,"parameters":{"retry_after":1e400}}', NotSent, timedelta(days=1)),
        (429, b'{"ok":false,"parameters":{"retry_after":NaN}}', NotSent, None),
        (429, b'{"description":7,"parameters":{"retry_after":5}}', NotSent, timedelta(seconds=5)),
        (429, rb'{"description":"\ud800","parameters":{"retry_after":5}}', NotSent, timedelta(seconds=5)),
        (400, rb'{"description":"Bad Request: no \u0000 such chat"}', ChannelRefused, None),
        (502, rb'{"description":"\u0000"}', NotSent, None),
        (429, b'{"parameters":{"retry_after":5,"migrate_to_chat_id":"x"}}', NotSent, timedelta(seconds=5)),
        (400, b'{"description":"Bad Request: message is too long","parameters":null}', Refused, None),
        (400, b'{"description":"message is too long","parameters":{"retry_after":"soon"}}', Refused, None),
        (429, b"<html>slow down</html>", NotSent, None),
        (302, b"", NotSent, None),
        (500, b'["no", "object"]', NotSent, None),
        (502, b"[" * 100_000, NotSent, None),
        (503, b'{"ok":fal', NotSent, None),
        (504, b"\xff\xfe", NotSent, None),
        (401, b'{"ok":false,"description":"Unauthorized"}', NotSent, None),
        (403, b"", ChannelRefused, None),
        (400, b'{"description":{"of":"another form"}}', ChannelRefused, None),
        (200, b"<html>log in to this network</html>", Unknown, None),
        (200, b'{"ok":true,"result":{"message_id":1', Unknown, None),
        (200, b'{"ok":true}', Unknown, None),
        (200, b'{"ok":true,"result":true}', Unknown, None),
        (200, b"[]", Unknown, None),
    ],
)
def test_an_answer_in_no_form_of_telegrams_is_what_its_status_says(
    telegram: Telegram, status: int, body: bytes, kind: type[Outcome], retry_after: timedelta | None
) -> None:
    telegram.local.answers_with = (status, body)
    outcome = telegram.send()
    assert type(outcome) is kind
    assert getattr(outcome, "retry_after", None) == retry_after
    assert not isinstance(outcome, Sent)
    assert len(outcome.reason) <= 300
    assert "\0" not in outcome.reason, "the database takes none"


def test_how_long_to_wait_and_where_a_chat_moved_are_handed_on(telegram: Telegram) -> None:
    slower = telegram.send(Fault.too_many)
    assert isinstance(slower, NotSent)
    assert (slower.retry_after, slower.moved_to) == (timedelta(seconds=3), None)
    telegram.local.faults.append(Fault.moved)
    moved = telegram.ask(lambda sender: sender.send("-5", "x"))
    assert isinstance(moved, NotSent)
    assert (moved.retry_after, moved.moved_to) == (None, "-1005")
    assert "1005" not in moved.reason, "everybody may read it"
    away = telegram.send(Fault.server_error)
    assert isinstance(away, NotSent)
    assert (away.retry_after, away.moved_to) == (None, None)


def test_a_connection_that_is_refused_sends_nothing_and_one_that_falls_silent_may_have(telegram: Telegram) -> None:
    silence = telegram.send(Fault.accept_then_silence, answer_seconds=0.2)
    assert isinstance(silence, Unknown)
    assert "TimedOut" in silence.reason
    telegram.server.refuse()
    refused = [telegram.send(), telegram.edit("x")]
    assert [type(outcome) for outcome in refused] == [NotSent, NotSent]
    assert all("ConnectError" in outcome.reason for outcome in refused if isinstance(outcome, NotSent))


def test_an_answer_that_trickles_is_given_up() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async def asked() -> tuple[Outcome, Outcome]:
        async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server, asyncio.timeout(60):
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with TelegramSender(TOKEN, url, answer_seconds=0.2) as sender:
                return await sender.send("42", "x"), await sender.edit("42", 1, "x")

    for outcome in asyncio.run(asked()):
        assert isinstance(outcome, Unknown), "it may have arrived"
        assert "no end" in outcome.reason


@pytest.mark.parametrize("number", ["null", '"x"', "1.5", "true", "-1", str(2**63)])
def test_a_message_without_a_number_may_have_arrived(telegram: Telegram, number: str) -> None:
    body = f'{{"ok":true,"result":{{"message_id":{number},"date":1,"chat":{{"id":42,"type":"private"}}}}}}'
    telegram.local.answers_with = (200, body.encode())
    assert isinstance(telegram.send(), Unknown)


def test_a_wrong_token_is_no_reason_to_give_up_and_is_in_no_words(
    telegram: Telegram, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        telegram.send()
        telegram.local._token = "another"
        outcome = telegram.send()
        assert logging.getLogger("txwatch").isEnabledFor(logging.INFO), "this program's own log goes on"
    assert isinstance(outcome, NotSent)
    assert TOKEN not in outcome.reason
    assert not any(TOKEN in record.getMessage() for record in caplog.records), "httpx would log each URL"


def test_the_token_is_taken_out_of_the_words_of_an_error_and_long_words_are_cut(telegram: Telegram) -> None:
    sender = TelegramSender(TOKEN, telegram.server.url)
    assert sender._words(ValueError(f"no /bot{TOKEN}/x")) == "ValueError: no /bot***/x"
    assert len(sender._words(ValueError("x" * 1_000))) == 300
