"""The bot that listens: commands, and the buttons below alerts. By long polling, so it needs no public address.

Only configured chats are answered. Updates that were handled are acknowledged with the next poll, so one may come twice
after a restart; handling one twice changes nothing.
"""

import asyncio
import signal
from collections.abc import Sequence
from typing import get_args

import psycopg
import structlog
from telegram import Bot, Chat, Update
from telegram.error import RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from txwatch.alerts.commands import answer
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.feedback import Verdict, record_feedback
from txwatch.alerts.identity import present_id, record_move
from txwatch.alerts.pacing import backoff
from txwatch.alerts.sender import TelegramSender, quiet_libraries
from txwatch.clock import utc_now
from txwatch.store.database import Connection, connect

log = structlog.get_logger(__name__)

POLL_SECONDS = 50
KINDS_OF_UPDATE = ["message", "callback_query"]


class AlertBot:
    """Listens in these chats until `stop` is set."""

    def __init__(self, database_url: str, token: str, chats: Sequence[str], api_url: str) -> None:
        quiet_libraries()
        self._database_url = database_url
        self._token, self._api_url = token, api_url
        self._chats = set(chats)
        self._dispatcher: Dispatcher | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Listen. A Telegram or a database that is away is asked again, ever more slowly."""
        request, polling = HTTPXRequest(), HTTPXRequest(read_timeout=POLL_SECONDS + 10)
        bot = Bot(self._token, f"{self._api_url.rstrip('/')}/bot", request=request, get_updates_request=polling)
        try:
            async with TelegramSender(self._token, self._api_url) as sender:
                self._dispatcher = Dispatcher(self._database_url, sender, ())
                listening = asyncio.ensure_future(self._listen(bot))
                stopping = asyncio.ensure_future(stop.wait())
                done, _ = await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
                for task in (listening, stopping):
                    task.cancel()
                await asyncio.gather(listening, stopping, return_exceptions=True)
                if listening in done:
                    listening.result()
        finally:
            await request.shutdown()
            await polling.shutdown()

    async def _listen(self, bot: Bot) -> None:
        offset, failures = 0, 0
        while True:
            try:
                updates = await bot.get_updates(offset, timeout=POLL_SECONDS, allowed_updates=KINDS_OF_UPDATE)
                for update in updates:
                    await self._handle_safely(bot, update)
                    offset = update.update_id + 1
                failures = 0
            except (TelegramError, psycopg.OperationalError) as error:
                failures += 1
                log.warning("bot_waits", cause=f"{type(error).__name__}: {error}".replace(self._token, "***"))
                delay = error.retry_after if isinstance(error, RetryAfter) else backoff(failures)
                await asyncio.sleep(delay if isinstance(delay, int) else delay.total_seconds())

    async def _handle_safely(self, bot: Bot, update: Update) -> None:
        """Handle an update. One that cannot be handled is logged and left behind: it would come again for ever."""
        try:
            await self._handle(bot, update)
        except (TelegramError, psycopg.OperationalError):
            raise
        except Exception:
            log.exception("update_not_handled", update_id=update.update_id)

    async def _handle(self, bot: Bot, update: Update) -> None:
        query, message = update.callback_query, update.message
        if query is not None and query.message is not None and query.data in get_args(Verdict):
            verdict: Verdict = "useful" if query.data == "useful" else "noise"
            number = query.message.message_id
            known = await asyncio.to_thread(self._note, query.message.chat, number, query.from_user.id, verdict)
            await bot.answer_callback_query(query.id, f"Noted: {verdict}." if known else "That is no alert of mine.")
        elif message is not None and message.migrate_to_chat_id is not None:
            await asyncio.to_thread(self._move, message.chat.id, message.migrate_to_chat_id)
        elif message is not None and message.migrate_from_chat_id is not None:
            await asyncio.to_thread(self._move, message.migrate_from_chat_id, message.chat.id)
        elif message is not None and message.text is not None:
            answered = await asyncio.to_thread(self._answer, message.chat, message.text)
            if answered is not None and self._dispatcher is not None:
                await self._dispatcher.reply(*answered)

    def _move(self, former: int, present: int) -> None:
        with connect(self._database_url, application="txwatch bot") as connection, connection.transaction():
            if {str(former), str(present)} & {present_id(connection, configured) for configured in self._chats}:
                record_move(connection, str(former), str(present))

    def _note(self, chat: Chat, message_id: int, user_id: int, verdict: Verdict) -> bool:
        with connect(self._database_url, application="txwatch bot") as connection:
            name = self._named(connection, chat)
            if name is None:
                return False
            return record_feedback(connection, name, message_id, user_id, verdict, utc_now()) is not None

    def _answer(self, chat: Chat, text: str) -> tuple[str, str] | None:
        """The configured chat and what to say there; None for others and for what is no command."""
        with connect(self._database_url, application="txwatch bot") as connection:
            name = self._named(connection, chat)
            if name is None:
                log.info("stranger_ignored", chat=chat.id)
                return None
            chat_id = present_id(connection, name)
            html = answer(connection, chat_id, text, utc_now())
            return None if html is None else (chat_id, html)

    def _named(self, connection: Connection, chat: Chat) -> str | None:
        """The chat's id or name, whichever is one of those that the settings' chats ever had; None for strangers."""
        ours = {present_id(connection, configured) for configured in self._chats}
        names = (str(chat.id), f"@{chat.username}".lower())
        return next((name for name in names if present_id(connection, name) in ours), None)


async def listen_until_signalled(bot: AlertBot) -> None:
    """Listen until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await bot.run(stop)
