"""Deliver what is due to each chat, in a task for each, so that one chat holds up no other.

For each message the chat's lock is taken, the next step decided, the claim committed, the request made, and its outcome
committed. Then the lock is released; waiting is done without it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import structlog

from txwatch.alerts import deliveries
from txwatch.alerts.alert import groups_with_pending, is_of_transaction, present_id, record_move
from txwatch.alerts.deliveries import Claim, channel_lock
from txwatch.alerts.messages import DigestLine, alert_message, digest_message, is_silent
from txwatch.alerts.planning import EditAlert, Idle, Limits, Request, SendAlert, SendDigest, Step, Wait, next_step
from txwatch.alerts.sender import Buttons, Sender, TelegramSender
from txwatch.alerts.store import BUTTONS, SentMessage, read_alerts, read_sent_message
from txwatch.channels.outcomes import NotSent, Outcome, Sent
from txwatch.clock import Clock, utc_now
from txwatch.labels.store import read_known
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import read_transaction
from txwatch.waiting import wait_for_first

log = structlog.get_logger(__name__)

BUSY = timedelta(milliseconds=200)
"""Wait while another process holds a chat's lock, or all together make too many requests."""
POLL = timedelta(seconds=1)
RECONNECT_SECONDS = 2.0
ANSWER_PATIENCE = timedelta(minutes=5)
"""An answer that is older is not sent: what it says may not be true any more."""


@dataclass(frozen=True)
class _Message:
    html: str
    silent: bool = False
    buttons: Buttons = ()
    sent: SentMessage | None = None
    """The message to edit. One under a former id of the chat is sent again instead."""


@dataclass
class Dispatcher:
    """Delivers to these chats. `delivered` counts the outcomes of its own requests by name."""

    database_url: str
    sender: Sender
    chats: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    clock: Clock = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    delivered: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._wakes = {chat_id: asyncio.Event() for chat_id in self.chats}

    def wake(self) -> None:
        """Say that alerts were committed, so that they go out without waiting for the next poll."""
        for wake in self._wakes.values():
            wake.set()

    async def drain(self, patience: timedelta) -> None:
        """Deliver until nothing waits, or what waits may not be sent within `patience` from now.

        An error of one chat is raised when the others have been served.
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
        """Learn of moves from the settings: a group with pending alerts that they do not name may have moved to one.

        Gives the chats of ours that such a group moved to.
        """
        found: set[str] = set()
        try:
            with connect(self.database_url, application="txwatch alerts") as connection:
                ours = {present_id(connection, chat_id) for chat_id in self.chats}
                formers = groups_with_pending(connection, ours, self.clock())
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
        """Answer somebody in a chat, within the same limits. An answer is tried once, and not kept."""
        deadline = written_at + ANSWER_PATIENCE
        with connect(self.database_url, application="txwatch bot") as connection:
            while True:
                if self.clock() > deadline:
                    return NotSent("what it says has become too old")
                chat_id = present_id(connection, chat_id)
                with channel_lock(connection, chat_id) as held:
                    wait: Wait | Claim = Wait(self.clock() + BUSY)
                    if held:
                        deliveries.take_over(connection, chat_id, self.clock())
                        wait = deliveries.claim_reply(connection, chat_id, self.limits, self.clock())
                    if isinstance(wait, Claim):
                        outcome = await self.sender.send(chat_id, html)
                        with connection.transaction():
                            deliveries.end_request(connection, chat_id, wait.request_id, outcome, self.clock())
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
                        # Before the step: what is committed during it must end the rest that follows.
                        self._wakes[chat_id].clear()
                        step = await self._step(connection, chat_id)
                        if isinstance(step, Idle | Wait):
                            await self._rest(step, stop, self._wakes[chat_id])
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("database_away", cause=str(error).strip())
                await self.sleep(RECONNECT_SECONDS)
            except Exception:
                # It must not end the delivery to the other chats.
                log.exception("chat_not_served", chat=chat_id)
                await self.sleep(RECONNECT_SECONDS)

    async def _rest(self, step: Idle | Wait, stop: asyncio.Event, wake: asyncio.Event) -> None:
        """Until the step is due, new alerts come, or the end."""
        rest = POLL if isinstance(step, Idle) else min(POLL, max(timedelta(0), step.until - self.clock()))
        await wait_for_first(stop.wait(), wake.wait(), self.sleep(rest.total_seconds()))

    async def _step(self, connection: Connection, chat_id: str) -> Step:
        """Send one message, if one may be sent now. Gives the decision."""
        chat_id = present_id(connection, chat_id)
        with channel_lock(connection, chat_id) as held:
            if not held:
                return Wait(self.clock() + BUSY)
            step, prepared = await asyncio.to_thread(self._prepare, connection, chat_id)
            if prepared is None:
                return step
            claimed, message = prepared
            html, buttons, sent = message.html, message.buttons, message.sent
            if sent is not None and sent.channel == chat_id:
                outcome = await self.sender.edit(chat_id, sent.message_id, html, buttons=buttons)
            else:
                outcome = await self.sender.send(chat_id, html, silent=message.silent, buttons=buttons)
            await asyncio.to_thread(deliveries.record, connection, chat_id, claimed, outcome, self.clock(), sent)
            name = type(outcome).__name__.lower()
            self.delivered[name] += 1
            why = {} if isinstance(outcome, Sent) else {"reason": outcome.reason}
            log.info("telegram_request", chat=chat_id, purpose=claimed.purpose, outcome=name, **why)
            return step

    def _prepare(self, connection: Connection, chat_id: str) -> tuple[Step, tuple[Claim, _Message] | None]:
        """Decide, write the message, and commit the claim. Whatever fails before the commit has sent nothing."""
        now = self.clock()
        deliveries.take_over(connection, chat_id, now)
        chat = deliveries.read_channel(connection, chat_id, self.limits, now)
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
        claimed = deliveries.claim(connection, chat_id, step, self.limits, now)
        return (Wait(now + BUSY), None) if claimed is None else (step, (claimed, message))


def _message(
    connection: Connection, chat_id: str, step: Request, refused_since: datetime | None, now: datetime
) -> _Message:
    if isinstance(step, SendDigest):
        lines = _digest_lines(connection, step.alert_keys)
        html = digest_message(lines, step.uncertain, now, refused_since)
        return _Message(html, is_silent([line.alert for line in lines]))
    (alert,) = read_alerts(connection, [step.alert_key])
    sent = read_sent_message(connection, chat_id, step.alert_key) if isinstance(step, EditAlert) else None
    transaction = read_transaction(connection, alert.alert_key)
    known = {} if transaction is None else read_known(connection, transaction.addresses)
    html = alert_message(alert, transaction, sent.sent_at if sent else now, sent.updates if sent else (), known)
    buttons = BUTTONS if is_of_transaction(alert.alert_key) else ()
    return _Message(html, sent is not None or is_silent([alert]), buttons, sent)


def _give_up(connection: Connection, chat_id: str, step: Request, reason: str, now: datetime) -> None:
    """Skip what no message can be written about: it would be tried for ever, and hold up all behind it."""
    match step:
        case SendAlert(key):
            deliveries.give_up(connection, chat_id, [key], reason)
        case SendDigest(keys, _):
            keys = [key for key in keys if not _has_a_line(connection, key, now)]
            deliveries.give_up(connection, chat_id, keys, reason)
        case EditAlert(key):
            deliveries.give_up_updates(connection, chat_id, key, reason)


def _has_a_line(connection: Connection, key: str, now: datetime) -> bool:
    try:
        digest_message(_digest_lines(connection, [key]), (), now)
    except psycopg.Error:
        raise
    except Exception:
        return False
    return True


def _digest_lines(connection: Connection, keys: Sequence[str]) -> list[DigestLine]:
    rows = connection.execute("SELECT txid, value_sat FROM transactions WHERE txid = ANY(%s)", [list(keys)])
    values: dict[str, int] = dict(rows.fetchall())
    return [DigestLine(alert, values.get(alert.alert_key)) for alert in read_alerts(connection, keys)]


@dataclass(frozen=True)
class Chats:
    """The chats that get alerts, and the bot. Without chats alerts are raised, and stay in the database."""

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
        """The dispatcher to these chats."""
        async with TelegramSender(self.token, self.api_url) as sender:
            yield Dispatcher(database_url, sender, self.ids)
