"""The local Telegram behaves like the Bot API, through the same client library as the product."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions
from telegram.error import BadRequest, InvalidToken, RetryAfter
from telegram.request import HTTPXRequest

from tests.feeds import SetClock
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, answers, wait_until
from txwatch.lab.simulator.telegram import BOT_ID, MAX_POLL_SECONDS, LocalTelegram
from txwatch.lab.simulator.telegram_rules import BadRequestError, FloodControl, read_text
from txwatch.lab.simulator.telegram_server import TelegramServer, phone


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def local(clock: SetClock) -> LocalTelegram:
    return LocalTelegram(clock)


@pytest.fixture
def server(local: LocalTelegram, monkeypatch: pytest.MonkeyPatch) -> Iterator[TelegramServer]:
    monkeypatch.setenv("PTB_TIMEDELTA", "true")
    with TelegramServer(local) as running:
        yield running


def ask(server: TelegramServer, question: Callable[[Bot], Awaitable[Any]], token: str = "1:a") -> Any:  # noqa: S107 - no secret
    async def conversation() -> Any:
        requests = [HTTPXRequest(), HTTPXRequest()]
        bot = Bot(token, base_url=f"{server.url}/bot", request=requests[0], get_updates_request=requests[1])
        try:
            return await question(bot)
        finally:
            for request in requests:
                await request.shutdown()

    return asyncio.run(conversation())


def test_a_message_is_kept_as_a_phone_shows_it(server: TelegramServer, local: LocalTelegram) -> None:
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("useful", callback_data="u:1")]])
    sent = ask(
        server,
        lambda bot: bot.send_message(
            "-100",
            '<b>1 &lt; 2</b> <a href="https://x/?a=1&amp;b=2">link</a>',
            parse_mode="HTML",
            reply_markup=keyboard,
            disable_notification=True,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        ),
    )
    (message,) = local.received
    assert (sent.message_id, sent.text, sent.chat.id) == (1, "1 < 2 link", -100)
    assert (message.text, message.links) == ("1 < 2 link", ("https://x/?a=1&b=2",))
    assert (message.silent, message.previews, message.buttons) == (True, False, (("useful", "u:1"),))
    console = Console(width=60)
    with console.capture() as shown:
        console.print(phone(message))
    assert "1 < 2 link" in shown.get()
    assert "[ useful ]" in shown.get()


def test_a_message_is_edited_in_place(server: TelegramServer, local: LocalTelegram, clock: SetClock) -> None:
    ask(server, lambda bot: bot.send_message("1", "before"))
    clock.forward(2)
    ask(server, lambda bot: bot.edit_message_text("after", "1", 1))
    assert [m.text for m in local.received] == ["after"]
    assert local.received[0].edited_at == clock.now
    clock.forward(2)
    with pytest.raises(BadRequest, match="not modified"):
        ask(server, lambda bot: bot.edit_message_text("after", "1", 1))
    clock.forward(2)
    with pytest.raises(BadRequest, match="not found"):
        ask(server, lambda bot: bot.edit_message_text("after", "2", 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<b>cut off", 'find end tag corresponding to start tag "b"'),
        ("a <", "Unclosed start tag at byte offset 2"),
        ("é<script>x</script>", 'Unsupported start tag "script" at byte offset 2'),
        ("<b><i>x</b></i>", 'expected "</i>", found "</b>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b> </b>", "text is empty"),
        ("🐋" * 2_049, "too long"),
    ],
)
def test_bad_messages_are_refused_in_telegrams_words(text: str, problem: str) -> None:
    with pytest.raises(BadRequestError, match=problem):
        read_text(text, "HTML")


def test_without_a_parse_mode_and_at_the_limit_text_is_taken_as_it_is() -> None:
    assert read_text("<b>cut off &amp;", None)[0] == "<b>cut off &amp;"
    assert read_text("&amp;" * 4_096, "HTML")[0] == "&" * 4_096


def test_limits_are_answered_with_retry_after(server: TelegramServer, clock: SetClock) -> None:
    ask(server, lambda bot: bot.send_message("1", "a"))
    with pytest.raises(RetryAfter) as too_many:
        ask(server, lambda bot: bot.send_message("1", "b"))
    assert too_many.value.retry_after == timedelta(seconds=1)
    ask(server, lambda bot: bot.send_message("2", "another chat"))
    clock.forward(1)
    ask(server, lambda bot: bot.send_message("1", "b"))


def test_groups_and_all_chats_together_have_limits_of_their_own(clock: SetClock) -> None:
    flood = FloodControl(clock)
    for _ in range(20):
        assert flood.retry_after("-1") is None
        clock.forward(1)
    assert flood.retry_after("-1") == 40
    clock.forward(40)
    assert flood.retry_after("-1") is None
    clock.forward(1)
    assert [flood.retry_after(str(n)) for n in range(1, 32)] == [None] * 30 + [1]
    assert flood.exceeded == {"group": 1, "all chats": 1}


def test_updates_are_waited_for_and_acknowledged_by_the_offset(server: TelegramServer, local: LocalTelegram) -> None:
    press = {
        "callback_query": {"id": "77", "from": {"id": 5, "is_bot": False, "first_name": "A"}, "chat_instance": "1"}
    }

    async def conversation(bot: Bot) -> Any:
        waiting = asyncio.create_task(bot.get_updates(timeout=20))
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            await client.post(f"{server.url}/update", json=press | {"data": "u:1"})
        (update,) = await waiting
        await update.callback_query.answer("noted")
        return update.update_id, await bot.get_updates(offset=update.update_id + 1)

    assert ask(server, conversation) == (1, ())
    assert local.answered_callbacks == [("77", "noted")]


def test_the_bot_says_who_it_is_and_a_wrong_token_is_refused(clock: SetClock) -> None:
    with TelegramServer(LocalTelegram(clock, token="1:a")) as server:
        assert ask(server, lambda bot: bot.get_me()).id == BOT_ID
        with pytest.raises(InvalidToken):
            ask(server, lambda bot: bot.get_me(), token="1:b")


def test_what_was_received_can_be_read_from_another_process(server: TelegramServer) -> None:
    ask(server, lambda bot: bot.send_message("1", "a"))
    ask(server, lambda bot: bot.send_message("2", "b"))
    answer = httpx.get(f"{server.url}/received", params={"after": 1}, timeout=PATIENCE_SECONDS).json()
    assert [(m["message_id"], m["text"]) for m in answer] == [(2, "b")]


def test_it_ends_though_a_bot_waits_for_updates() -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-m", "txwatch", "telegram", f"--port={port}"]) as process:
        wait_until(lambda: answers(f"{address}/received"), "the local Telegram answers")
        with ThreadPoolExecutor() as pool, httpx.Client(timeout=PATIENCE_SECONDS) as client:
            poll = pool.submit(client.get, f"{address}/bot1:a/getUpdates", params={"timeout": MAX_POLL_SECONDS})
            wait_until(lambda: connections(port) > 0, "the poll is there")
            process.terminate()
            process.wait(PATIENCE_SECONDS)
            with suppress(httpx.HTTPError):
                assert not poll.result().is_success, "it waited for the poll's end"


def connections(port: int) -> int:
    """How many clients of this process are connected to a port."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)
