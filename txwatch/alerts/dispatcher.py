"""Deliver what is due to each chat, beside each other, so that one chat holds up no other.

For each message the chat's lock is taken, the next step decided, the claim committed, the request made, and its outcome
committed; then the lock is free for others. Waiting is done without it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import structlog

from txwatch.alerts.alert import SYSTEM_PREFIX, Alert, present_id, record_move, waits_elsewhere
from txwatch.alerts.deliveries import (
    Claim,
    chat_lock,
    claim,
    claim_reply,
    end_request,
    give_up,
    give_up_news,
    read_chat,
    record,
    record_edit,
    settle,
)
from txwatch.alerts.messages import DigestLine, alert_message, digest_message, is_silent
from txwatch.alerts.planning import EditAlert, Idle, Limits, Request, SendAlert, SendDigest, Step, Wait, next_step
from txwatch.alerts.sender import Buttons, NotSent, Outcome, Sender, Sent, TelegramSender
from txwatch.alerts.store import BUTTONS, Edition, read_alerts, read_edition
from txwatch.clock import Clock, utc_now
from txwatch.labels.store import read_known
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import read_transaction

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]

BUSY = timedelta(milliseconds=200)
"""How long to wait while another process holds a chat's lock, or all together make too many requests."""
POLL = timedelta(seconds=1)
RECONNECT_SECONDS = 2.0
ANSWER_PATIENCE = timedelta(minutes=5)
"""What is said of the system is not true for longer: who gets no answer until then may ask again."""


@dataclass(frozen=True)
class _Message:
    html: str
    silent: bool = False
    buttons: Buttons = ()
    edition: Edition | None = None
    """Of an edit: the message that is to be changed, and what it will show. One in a former chat is sent anew."""


@dataclass
class Dispatcher:
    """Delivers to these chats. `delivered` counts the outcomes of its own requests by name."""

    database_url: str
    sender: Sender
    chats: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    clock: Clock = utc_now
    sleep: Sleep = asyncio.sleep
    delivered: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._wakes = {chat_id: asyncio.Event() for chat_id in self.chats}

    def wake(self) -> None:
        """Say that something new was committed, so that it goes out without waiting for the next look."""
        for wake in self._wakes.values():
            wake.set()

    async def drain(self, patience: timedelta) -> None:
        """Deliver until nothing waits, or what waits may not be sent within `patience` from now.

        What befalls one chat is raised when the others have been served.
        """
        deadline = self.clock() + patience
        chats = (self._drain_chat(chat_id, deadline) for chat_id in self.chats)
        served = await asyncio.gather(self._drain_moved(deadline), *chats, return_exceptions=True)
        for error in served:
            if error is not None:
                raise error

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_moves())
            for chat_id in self.chats:
                tasks.create_task(self._run_chat(chat_id, stop))

    async def _follow_moves(self) -> set[str]:
        """Learn of moves that the settings know before us: what waits for a group that nobody names is perhaps ours.

        Gives the chats of ours that were found to be such a group.
        """
        found: set[str] = set()
        try:
            with connect(self.database_url, application="txwatch alerts") as connection:
                ours = {present_id(connection, chat_id) for chat_id in self.chats}
                formers = waits_elsewhere(connection, ours, self.clock())
                presents = await asyncio.gather(*(self.sender.moved_to(former) for former in formers))
                for former, present in zip(formers, presents, strict=True):
                    if present in ours:
                        with connection.transaction():
                            record_move(connection, former, present)
                        found.add(present)
        except psycopg.Error as error:
            log.warning("moves_not_followed", cause=str(error).strip())
        return found

    async def _drain_moved(self, deadline: datetime) -> None:
        """Deliver what waits under the former ids of chats that were perhaps drained before the move was known."""
        for chat_id in await self._follow_moves():
            await self._drain_chat(chat_id, deadline)

    async def reply(self, chat_id: str, html: str, written_at: datetime) -> Outcome:
        """Answer somebody in a chat, within the same limits. An answer is not kept: it is tried once, if at all."""
        deadline = written_at + ANSWER_PATIENCE
        with connect(self.database_url, application="txwatch bot") as connection:
            while True:
                if self.clock() > deadline:
                    return NotSent("what it says has become too old")
                chat_id = present_id(connection, chat_id)
                with chat_lock(connection, chat_id) as held:
                    wait: Wait | Claim = Wait(self.clock() + BUSY)
                    if held:
                        settle(connection, chat_id, self.clock())
                        wait = claim_reply(connection, chat_id, self.limits, self.clock())
                    if isinstance(wait, Claim):
                        outcome = await self.sender.send(chat_id, html)
                        with connection.transaction():
                            end_request(connection, chat_id, wait.request_id, outcome, self.clock())
                        if isinstance(outcome, NotSent) and outcome.moved_to is not None:
                            continue
                        return outcome
                if wait.until > deadline:
                    return NotSent(f"nothing may be sent to the chat before {wait.until:%H:%M:%S} UTC")
                await self.sleep(max(0.0, (wait.until - self.clock()).total_seconds()))

    async def _drain_chat(self, chat_id: str, deadline: datetime) -> None:
        with connect(self.database_url, application="txwatch alerts") as connection:
            while not isinstance(step := await self._step(connection, chat_id), Idle):
                if isinstance(step, Wait):
                    if step.until > deadline:
                        return
                    await self.sleep(max(0.0, (step.until - self.clock()).total_seconds()))

    async def _run_chat(self, chat_id: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                with connect(self.database_url, application="txwatch alerts") as connection:
                    while not stop.is_set():
                        # Before the look, not after: what is committed during it must end the rest that follows.
                        self._wakes[chat_id].clear()
                        step = await self._step(connection, chat_id)
                        if isinstance(step, Idle | Wait):
                            await self._rest(step, stop, self._wakes[chat_id])
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # The alerts wait in the database, and so does this until it is back.
                log.warning("database_away", cause=str(error).strip())
                await self.sleep(RECONNECT_SECONDS)
            except Exception:
                # What befell this chat must not end the delivery to all others.
                log.exception("chat_not_served", chat=chat_id)
                await self.sleep(RECONNECT_SECONDS)

    async def _rest(self, step: Idle | Wait, stop: asyncio.Event, wake: asyncio.Event) -> None:
        """Until the time has come, something new is there, or the end; a new alert may be due before an old one."""
        rest = POLL if isinstance(step, Idle) else min(POLL, max(timedelta(0), step.until - self.clock()))
        pause = self.sleep(rest.total_seconds())
        waits = [asyncio.ensure_future(waited) for waited in (stop.wait(), wake.wait(), pause)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _step(self, connection: Connection, chat_id: str) -> Step:
        """Send one message, if one may be sent now. Gives what was decided."""
        chat_id = present_id(connection, chat_id)
        with chat_lock(connection, chat_id) as held:
            if not held:
                return Wait(self.clock() + BUSY)
            step, prepared = await asyncio.to_thread(self._prepare, connection, chat_id)
            if prepared is None:
                return step
            claimed, message = prepared
            outcome = await self._request(chat_id, message)
            await asyncio.to_thread(self._record, connection, chat_id, claimed, message.edition, outcome)
            name = type(outcome).__name__.lower()
            self.delivered[name] += 1
            why = {} if isinstance(outcome, Sent) else {"reason": outcome.reason}
            log.info("telegram_request", chat=chat_id, purpose=claimed.purpose, outcome=name, **why)
            return step

    def _prepare(self, connection: Connection, chat_id: str) -> tuple[Step, tuple[Claim, _Message] | None]:
        """Decide, write the message, and commit the claim: whatever fails before the commit has sent nothing."""
        now = self.clock()
        settle(connection, chat_id, now)
        chat = read_chat(connection, chat_id, self.limits, now)
        step = next_step(chat, now)
        if isinstance(step, Idle | Wait):
            return step, None
        try:
            message = _message(connection, chat_id, step, chat.refused_since, now)
        except psycopg.Error:
            raise
        except Exception as error:
            log.exception("message_not_written", chat=chat_id, step=type(step).__name__)
            _give_up(connection, chat_id, step, f"it cannot be written: {type(error).__name__}: {error}"[:300], now)
            return Wait(now), None
        claimed = claim(connection, chat_id, step, self.limits, now)
        if claimed is None:
            return Wait(now + BUSY), None
        return step, (claimed, message)

    async def _request(self, chat_id: str, message: _Message) -> Outcome:
        html, buttons, edition = message.html, message.buttons, message.edition
        if edition is not None and edition.chat_id == chat_id:
            return await self.sender.edit(chat_id, edition.message_id, html, buttons=buttons)
        return await self.sender.send(chat_id, html, silent=message.silent, buttons=buttons)

    def _record(
        self, connection: Connection, chat_id: str, claimed: Claim, edition: Edition | None, outcome: Outcome
    ) -> None:
        if edition is None:
            record(connection, chat_id, claimed, outcome, self.clock())
        else:
            record_edit(connection, chat_id, claimed, edition, outcome, self.clock())


def _message(
    connection: Connection, chat_id: str, step: Request, refused_since: datetime | None, now: datetime
) -> _Message:
    """The message of a step."""
    match step:
        case SendAlert(key):
            (alert,) = read_alerts(connection, [key])
            return _Message(_written(connection, alert, now), is_silent([alert]), _buttons(alert))
        case SendDigest(keys, uncertain):
            lines = read_digest(connection, keys)
            html = digest_message(lines, uncertain, now, refused_since)
            return _Message(html, is_silent([line.alert for line in lines]))
        case EditAlert(key):
            (alert,) = read_alerts(connection, [key])
            edition = read_edition(connection, chat_id, key)
            html = _written(connection, alert, edition.sent_at, edition.updates)
            return _Message(html, silent=True, buttons=_buttons(alert), edition=edition)


def _give_up(connection: Connection, chat_id: str, step: Request, reason: str, now: datetime) -> None:
    """Leave behind what made a message impossible to write: it would be tried for ever, and all behind it wait."""
    match step:
        case SendAlert(key):
            give_up(connection, chat_id, [key], reason)
        case SendDigest(keys, _):
            give_up(connection, chat_id, [key for key in keys if not _has_a_line(connection, key, now)], reason)
        case EditAlert(key):
            give_up_news(connection, chat_id, key, reason, now)


def _has_a_line(connection: Connection, key: str, now: datetime) -> bool:
    try:
        digest_message(read_digest(connection, [key]), (), now)
    except psycopg.Error:
        raise
    except Exception:
        return False
    return True


def _written(connection: Connection, alert: Alert, sent_at: datetime, updates: Sequence[str] = ()) -> str:
    """The message about an alert, with what is known of its transaction by now."""
    transaction = read_transaction(connection, alert.alert_key)
    known = {} if transaction is None else read_known(connection, transaction.addresses)
    return alert_message(alert, transaction, sent_at, updates, known)


def _buttons(alert: Alert) -> Buttons:
    return () if alert.alert_key.startswith(SYSTEM_PREFIX) else BUTTONS


def read_digest(connection: Connection, keys: Sequence[str]) -> list[DigestLine]:
    """The alerts with these keys, in this order, each with its amount."""
    rows = connection.execute("SELECT txid, value_sat FROM transactions WHERE txid = ANY(%s)", [list(keys)])
    values: dict[str, int] = dict(rows.fetchall())
    return [DigestLine(alert, values.get(alert.alert_key)) for alert in read_alerts(connection, keys)]


@dataclass(frozen=True)
class Chats:
    """Chats and bot. Without chats alerts are raised, and stay visible in the terminal and the database."""

    ids: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    api_url: str = "https://api.telegram.org"

    @classmethod
    def of(cls, settings: Settings) -> "Chats":
        """Those that the settings name."""
        token = settings.telegram_bot_token
        return cls(settings.telegram_chats, token.get_secret_value() if token else "", settings.telegram_api_url)

    @asynccontextmanager
    async def dispatcher(self, database_url: str) -> AsyncIterator[Dispatcher]:
        """What delivers to them, for an `async with` block."""
        async with TelegramSender(self.token, self.api_url) as sender:
            yield Dispatcher(database_url, sender, self.ids)
