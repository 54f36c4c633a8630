"""The bot: read updates from Telegram and answer commands and buttons of the configured chats.

Updates that were handled are acknowledged with the next poll, so one may come twice after a restart; handling it twice
changes nothing. One that cannot be handled is skipped: else it would come again for ever, and hold up all later ones.
Those of a chat are handled in their order, and a chat about which Telegram answers late holds up no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import get_args

import psycopg
import structlog
from telegram import Bot, Chat, ChatMember, Message, Update, User
from telegram.error import RetryAfter, TelegramError

from txwatch.alerts.alert import present_id, record_move
from txwatch.alerts.cases import close_by_button
from txwatch.alerts.commands import NOBODY, Person, answer, changes_the_chat, named_bot
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.planning import backoff
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import Verdict, record_feedback
from txwatch.alerts.transport import Polling, Transport, quiet_libraries
from txwatch.channels.outcomes import Sent
from txwatch.clock import utc_now
from txwatch.foreign import one_line
from txwatch.store.database import Connection, connect
from txwatch.waiting import wait_for_first


@dataclass(frozen=True)
class BotStatus:
    """What the bot recorded last. Times UTC."""

    noted_at: datetime
    deaf_since: datetime | None
    """Since when Telegram gives it no updates; None while it does."""
    reason: str | None


def record_bot_status(connection: Connection, now: datetime, problem: str | None) -> None:
    """Record that the bot gets updates, or why it does not."""
    connection.execute(
        "INSERT INTO telegram_bot AS bot (noted_at, deaf_since, reason)"
        " VALUES (%(now)s, CASE WHEN %(problem)s::text IS NOT NULL THEN %(now)s END, %(problem)s)"
        " ON CONFLICT (only_one) DO UPDATE SET noted_at = excluded.noted_at, reason = excluded.reason, deaf_since ="
        # The earlier one: the clock may have been ahead.
        " CASE WHEN excluded.reason IS NOT NULL THEN least(bot.deaf_since, excluded.deaf_since) END",
        {"now": now, "problem": problem},
    )


def read_bot_status(connection: Connection) -> BotStatus | None:
    """What the bot recorded last; None if none ever ran."""
    row = connection.execute("SELECT noted_at, deaf_since, reason FROM telegram_bot").fetchone()
    return None if row is None else BotStatus(*row)


log = structlog.get_logger(__name__)

POLL_SECONDS = 50
EMPTY_SECONDS = 1.0
"""Pause after a poll without updates, for a server that answers at once."""
HEARD_SECONDS = 30
"""Least time between two records that the bot gets updates, by which it is seen to run; a poll may last longer."""
NOTE_SECONDS = 300
"""Between two records that the bot gets no updates: well within `health.BOT_FORGOTTEN`."""
MAX_WAITING = 5
"""Answers that may wait for a chat. Further ones are dropped."""
ADMINISTRATORS = {ChatMember.OWNER, ChatMember.ADMINISTRATOR}
FOR_ADMINISTRATORS = "Only administrators of the group may change this."
NOT_DONE = "That could not be done. The log of the bot says why."
Answers = asyncio.Queue[tuple[datetime, str]]
"""Answers to a chat, each with when it was written."""


async def wait_without_token(stop: asyncio.Event) -> None:
    """Wait for the end instead of listening, and say why: a process that ended would be started again and again."""
    log.warning(
        "bot_waits",
        cause="TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set: alerts stay in the dashboard",
        remedy="@BotFather on Telegram gives a token; set both, and start the bot anew",
    )
    await stop.wait()


class AlertBot:
    """Listens in these chats until `stop` is set."""

    def __init__(
        self,
        database_url: str,
        token: str,
        chats: Sequence[str],
        api_url: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        quiet_libraries()
        self._database_url, self._token, self._api_url = database_url, token, api_url
        self._answers: dict[str, Answers] = {chat: asyncio.Queue(MAX_WAITING) for chat in chats}
        self._sleep = sleep
        self._username: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Listen. While Telegram or the database is away, they are asked ever more slowly."""
        request, polling = Transport(), Polling(read_timeout=POLL_SECONDS + 10)
        bot = Bot(self._token, f"{self._api_url.rstrip('/')}/bot", request=request, get_updates_request=polling)
        try:
            async with TelegramSender(self._token, self._api_url) as sender:
                dispatcher = Dispatcher(self._database_url, sender, ())
                speaking = [self._speak(dispatcher, chat, answers) for chat, answers in self._answers.items()]
                await wait_for_first(stop.wait(), self._listen(bot), *speaking)
        finally:
            await request.shutdown()
            await polling.shutdown()

    async def _listen(self, bot: Bot) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._listen_for_ever(bot, Handling(tasks, partial(self._handle_safely, bot)))

    async def _listen_for_ever(self, bot: Bot, handling: "Handling") -> None:
        offset, failures, noted = 0, 0, float("-inf")
        seconds = asyncio.get_running_loop().time
        while True:
            before = offset
            try:
                updates = await bot.get_updates(
                    offset, timeout=POLL_SECONDS, allowed_updates=["message", "callback_query"]
                )
                failures = 0
                if seconds() - noted >= HEARD_SECONDS and await self._record_status(None):
                    noted = seconds()
                handling.begin(updates)
                await wait_for_first(handling.end(), self._sleep(EMPTY_SECONDS))
                offset = handling.acknowledge(updates, offset)
                if error := handling.take_error():
                    raise error
                if offset == before and not handling.is_busy:
                    await self._sleep(EMPTY_SECONDS)
            except psycopg.OperationalError as error:
                failures += 1
                log.warning("bot_waits", cause=self._words(error))
                await self._sleep(backoff(failures).total_seconds())
            except Exception as error:  # whatever came instead of updates, the next poll may give some
                noted, failures = float("-inf"), failures + 1
                log.warning("bot_hears_nothing", cause=self._words(error))
                asked = error.retry_after if isinstance(error, RetryAfter) else backoff(failures)
                await self._rest(asked if isinstance(asked, int) else asked.total_seconds(), self._words(error))

    async def _rest(self, seconds: float, problem: str) -> None:
        """Wait, and record the problem again and again: an old record counts as unknown."""
        while True:
            await self._record_status(problem)
            await self._sleep(min(seconds, NOTE_SECONDS))
            seconds -= NOTE_SECONDS
            if seconds <= 0:
                return

    async def _record_status(self, problem: str | None) -> bool:
        """Whether it could be recorded."""

        def record() -> None:
            with self._connected() as connection:
                record_bot_status(connection, utc_now(), problem)

        try:
            await asyncio.to_thread(record)
        except psycopg.Error as error:
            log.warning("listening_not_noted", cause=self._words(error))
            return False
        return True

    async def _speak(self, dispatcher: Dispatcher, chat_id: str, answers: Answers) -> None:
        """Send a chat its answers. Each chat has a task, so that the pause of one holds up no other."""
        while True:
            written_at, html = await answers.get()
            try:
                outcome = await dispatcher.reply(chat_id, html, written_at)
                if not isinstance(outcome, Sent):
                    log.info("not_answered", chat=chat_id, cause=outcome.reason)
            except Exception as error:
                log.warning("not_answered", chat=chat_id, cause=self._words(error))

    async def _handle_safely(self, bot: Bot, update: Update) -> None:
        """Handle an update, or skip it. Raises psycopg.OperationalError while the database is away."""
        try:
            await self._handle(bot, update)
        except TelegramError as error:
            # Such as a button that was pressed while no bot ran: Telegram takes no late answer to it.
            log.info("update_not_answered", update_id=update.update_id, cause=self._words(error))
        except psycopg.OperationalError as error:
            if not await asyncio.to_thread(self._database_answers):
                raise
            log.warning("update_not_handled", update_id=update.update_id, cause=self._words(error))
        except Exception:
            log.exception("update_not_handled", update_id=update.update_id)

    async def _handle(self, bot: Bot, update: Update) -> None:
        query, message = update.callback_query, update.message
        if query is not None and query.message is not None and query.data in get_args(Verdict):
            verdict: Verdict = "useful" if query.data == "useful" else "noise"
            number = query.message.message_id
            by = _person(query.from_user)
            known = await asyncio.to_thread(self._judge, query.message.chat, number, by, verdict)
            await bot.answer_callback_query(query.id, f"Noted: {verdict}." if known else "That is no alert of mine.")
        elif message is not None and message.migrate_to_chat_id is not None:
            await asyncio.to_thread(self._move, message.chat.id, message.migrate_to_chat_id)
        elif message is not None and message.migrate_from_chat_id is not None:
            await asyncio.to_thread(self._move, message.migrate_from_chat_id, message.chat.id)
        elif message is not None and message.text is not None and message.text.startswith("/"):
            await self._obey(bot, message, message.text)

    async def _obey(self, bot: Bot, message: Message, text: str) -> None:
        """Do what a command says, at once, and queue the answer."""
        configured = await asyncio.to_thread(self._configured, message.chat)
        if configured is None:
            log.info("stranger_ignored", chat=message.chat.id)
            return
        if (named := named_bot(text)) and named != await self._own_name(bot):
            return
        html = await _refusal(bot, message) if changes_the_chat(text) else None
        if html is None:
            by = NOBODY if message.from_user is None else _person(message.from_user)
            html = await self._done(configured, text, message.date, by)
        answers = self._answers[configured]
        if html is not None and not answers.full():
            answers.put_nowait((utc_now(), html))

    async def _done(self, configured: str, text: str, said_at: datetime, by: Person) -> str | None:
        """The answer to a command, NOT_DONE if it fails. Raises psycopg.OperationalError while the database is away."""
        try:
            return await asyncio.to_thread(self._answer, configured, text, said_at, by)
        except Exception as error:
            if isinstance(error, psycopg.OperationalError) and not await asyncio.to_thread(self._database_answers):
                raise
            log.exception("command_not_done", chat=configured)
            return NOT_DONE

    async def _own_name(self, bot: Bot) -> str:
        self._username = self._username or (await bot.get_me()).username or ""
        return self._username.lower()

    def _judge(self, chat: Chat, message_id: int, by: Person, verdict: Verdict) -> bool:
        with self._connected() as connection:
            name = self._named(connection, chat)
            if name is None:
                return False
            key = record_feedback(connection, name[0], message_id, by.user_id, verdict, utc_now())
            if key is not None:
                close_by_button(connection, key, by.who, by.user_id, verdict, utc_now())
            return key is not None

    def _move(self, former: int, present: int) -> None:
        with self._connected() as connection, connection.transaction():
            if {str(former), str(present)} & {present_id(connection, chat) for chat in self._answers}:
                record_move(connection, str(former), str(present))

    def _configured(self, chat: Chat) -> str | None:
        with self._connected() as connection:
            named = self._named(connection, chat)
        return None if named is None else named[1]

    def _answer(self, configured: str, text: str, said_at: datetime, by: Person) -> str | None:
        with self._connected() as connection:
            return answer(connection, present_id(connection, configured), text, utc_now(), said_at, by)

    def _named(self, connection: Connection, chat: Chat) -> tuple[str, str] | None:
        """The chat's id or name, and its name in the settings, by any id that it ever had; None for strangers."""
        ours = {present_id(connection, configured): configured for configured in self._answers}
        names = [str(chat.id), *([f"@{chat.username}".lower()] if chat.username else [])]
        return next(((n, ours[present]) for n in names if (present := present_id(connection, n)) in ours), None)

    def _connected(self) -> AbstractContextManager[Connection]:
        return connect(self._database_url, application="txwatch bot")

    def _database_answers(self) -> bool:
        try:
            with self._connected():
                return True
        except psycopg.OperationalError:
            return False

    def _words(self, error: Exception) -> str:
        return one_line(f"{type(error).__name__}: {error}".replace(self._token, "***"))


class Handling:
    """Updates that are being handled, a task for each chat. It holds no more of them than one poll gives."""

    def __init__(self, tasks: asyncio.TaskGroup, handle: Callable[[Update], Awaitable[None]]) -> None:
        self._tasks, self._handle = tasks, handle
        self._running: dict[int | None, asyncio.Task[None]] = {}
        self._handled: set[int] = set()
        """Numbers of updates that come again, because one before them is not handled yet."""
        self._error: psycopg.OperationalError | None = None

    def begin(self, updates: Sequence[Update]) -> None:
        """Handle what is new of these. Those of a chat that is busy wait: they come again with the next poll."""
        self._handled.intersection_update(update.update_id for update in updates)
        of_chats: dict[int | None, list[Update]] = {}
        for update in updates:
            chat_id = update.effective_chat.id if update.effective_chat else None
            if update.update_id not in self._handled and chat_id not in self._running:
                of_chats.setdefault(chat_id, []).append(update)
        for chat_id, theirs in of_chats.items():
            self._running[chat_id] = self._tasks.create_task(self._handle_all(chat_id, theirs))

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    async def end(self) -> None:
        """Wait until nothing is being handled."""
        if self._running:
            await asyncio.wait(self._running.values())

    def acknowledge(self, updates: Sequence[Update], offset: int) -> int:
        """The offset after those that were handled and come before any that was not."""
        for update in updates:
            if update.update_id not in self._handled:
                break
            self._handled.remove(update.update_id)
            # Not the highest: after a quiet week Telegram goes on from any number, also from a lower one.
            offset = update.update_id + 1
        return offset

    def take_error(self) -> psycopg.OperationalError | None:
        """Why some were not handled and must come again, once."""
        error, self._error = self._error, None
        return error

    async def _handle_all(self, chat_id: int | None, updates: Sequence[Update]) -> None:
        try:
            for update in updates:
                await self._handle(update)
                self._handled.add(update.update_id)
        except psycopg.OperationalError as error:
            self._error = error
        finally:
            del self._running[chat_id]


def _person(user: User) -> Person:
    return Person(user.id, user.full_name, user.username)


async def _refusal(bot: Bot, message: Message) -> str | None:
    """The answer to somebody who may not change what the chat gets; None for whoever may."""
    if message.chat.type == Chat.PRIVATE:
        return None
    if message.sender_chat is not None:
        # Anonymous administrators speak as the group itself.
        return None if message.sender_chat.id == message.chat.id else FOR_ADMINISTRATORS
    if message.from_user is None:
        return FOR_ADMINISTRATORS
    try:
        member = await bot.get_chat_member(message.chat.id, message.from_user.id)
    except Exception:  # also an answer that the library cannot read
        return "Telegram does not say whether you are an administrator. Try again later."
    return None if member.status in ADMINISTRATORS else FOR_ADMINISTRATORS
