"""Deliver what is due to each channel, in a task for each, so that one channel holds up no other.

For each message the channel's lock is taken, the next step decided, the claim committed, the request made, and its
outcome committed. Then the lock is released; waiting is done without it. What the database is asked waits in threads,
so that a slow answer about one channel holds up no other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from traceback import format_tb

import psycopg
import structlog

from txwatch.alerts import deliveries
from txwatch.alerts.alert import groups_with_pending, present_id, record_move
from txwatch.alerts.carriers import Carrier, Message, TelegramCarrier, open_carriers, read_digest_lines
from txwatch.alerts.deliveries import Claim
from txwatch.alerts.messages import digest_lines
from txwatch.alerts.planning import EditAlert, Idle, Limits, Request, SendAlert, SendDigest, Step, Wait, next_step
from txwatch.alerts.sender import Sender, TelegramSender
from txwatch.channels.channel import Kind, WrongChannelError, is_chat
from txwatch.channels.outcomes import NotSent, Outcome, Sent, Unanswered, Unknown
from txwatch.channels.store import NoSuchChannelError, active_channels, kind_of
from txwatch.clock import Clock, utc_now
from txwatch.foreign import one_line
from txwatch.settings import Settings
from txwatch.store.aside import Aside, connect_aside
from txwatch.store.database import Connection
from txwatch.store.locks import Lock, release, take_if_free
from txwatch.waiting import wait_for_first

log = structlog.get_logger(__name__)

BUSY = timedelta(milliseconds=200)
"""Wait while another process holds a channel's lock, or all together make too many requests."""
POLL = timedelta(seconds=1)
RECONNECT_SECONDS = 2.0
ANSWER_PATIENCE = timedelta(minutes=5)
"""An answer that is older is not sent: what it says may not be true any more."""


TEST_PATIENCE = timedelta(seconds=30)
"""How long a test waits for a request to the same channel that is under way."""


@dataclass(frozen=True)
class _Claimed:
    """A request that was committed and is to be made. The channel's lock is held until its outcome is recorded."""

    channel: str
    claim: Claim
    message: Message


@dataclass
class Dispatcher:
    """Delivers to these chats, and by `others` to all other channels; `delivered` counts the outcomes by name.

    Without `sender` there are no chats.
    """

    database_url: str
    sender: Sender | None
    chats: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    clock: Clock = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    others: Mapping[Kind, Carrier] = field(default_factory=dict)
    delivered: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        telegram = {} if self.sender is None else {"telegram": TelegramCarrier(self.sender, self.limits)}
        self._carriers: dict[Kind, Carrier] = {**self.others, **telegram}  # type: ignore[dict-item]
        self._wakes = {chat_id: asyncio.Event() for chat_id in self.chats}
        self._active = set(self.chats)

    def wake(self) -> None:
        """Say that alerts were committed, so that they go out without waiting for the next poll."""
        for wake in self._wakes.values():
            wake.set()

    async def drain(self, patience: timedelta) -> None:
        """Deliver until nothing waits, or what waits may not be sent within `patience` from now.

        An error of one channel is raised when the others have been served.
        """
        deadline = self.clock() + patience
        others = await self._read_others()
        channels = (self._drain_channel(channel, deadline) for channel in (*self.chats, *others))
        served = await asyncio.gather(self._drain_moved(deadline), *channels, return_exceptions=True)
        for error in served:
            if error is not None:
                raise error

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_moves())
            for chat_id in self.chats:
                tasks.create_task(self._run_channel(chat_id, stop))
            if self.others:
                tasks.create_task(self._run_others(stop))

    async def _run_others(self, stop: asyncio.Event) -> None:
        """A task for each channel that is there now. One that is added is found within POLL, one that goes ends."""
        running: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                try:
                    async with self._connected() as aside:
                        while not stop.is_set():
                            there = await aside.call(active_channels)
                            self._active = {*self.chats, *there}
                            for channel in there:
                                if channel not in running or running[channel].done():
                                    self._wakes[channel] = asyncio.Event()
                                    running[channel] = tasks.create_task(self._run_channel(channel, stop))
                            await wait_for_first(stop.wait(), self.sleep(POLL.total_seconds()))
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    log.warning("database_away", cause=str(error).strip())
                    await self.sleep(RECONNECT_SECONDS)
                except psycopg.Error:
                    # It must not end the delivery to those that are known.
                    log.exception("channels_not_read")
                    await self.sleep(RECONNECT_SECONDS)

    async def _read_others(self) -> list[str]:
        if not self.others:
            return []
        async with self._connected() as aside:
            return await aside.call(active_channels)

    async def _follow_moves(self) -> set[str]:
        """Learn of moves from the settings: a group with pending alerts that they do not name may have moved to one.

        Gives the chats of ours that such a group moved to.
        """
        found: dict[str, str] = {}
        try:
            async with self._connected() as aside:
                ours, formers = await aside.call(self._groups_to_ask_for)
                presents = await asyncio.gather(*(self.sender.moved_to(former) for former in formers if self.sender))
                found = {former: now for former, now in zip(formers, presents, strict=True) if now in ours}
                await aside.call(_record_moves, found)
        except psycopg.Error as error:
            log.warning("moves_not_followed", cause=str(error).strip())
        return set(found.values())

    def _groups_to_ask_for(self, connection: Connection) -> tuple[set[str], list[str]]:
        """The present ids of our chats, and groups with pending alerts that may have moved to one of them."""
        ours = {present_id(connection, chat_id) for chat_id in self.chats}
        return ours, groups_with_pending(connection, ours, self.clock()) if self.sender else []

    async def _drain_moved(self, deadline: datetime) -> None:
        """Deliver what waits under the former ids of chats that were perhaps drained before the move was known."""
        for chat_id in await self._follow_moves():
            await self._drain_channel(chat_id, deadline)

    async def reply(self, chat_id: str, html: str, written_at: datetime) -> Outcome:
        """Answer somebody in a chat, within the same limits. An answer is tried once, and not kept."""
        sender, deadline = self.sender, written_at + ANSWER_PATIENCE
        if sender is None:
            return NotSent("there is no bot")
        async with connect_aside(self.database_url, application="txwatch bot") as aside:
            while True:
                if self.clock() > deadline:
                    return NotSent("what it says has become too old")
                claimed = await aside.call(self._claim_reply, chat_id, sender, html)
                if isinstance(claimed, _Claimed):
                    outcome = await self._make(aside, claimed)
                    if isinstance(outcome, NotSent) and outcome.moved_to is not None:
                        continue
                    return outcome
                if claimed.until > deadline:
                    return NotSent(f"nothing may be sent to the chat before {claimed.until:%H:%M:%S} UTC")
                await self.sleep(max(0.0, (claimed.until - self.clock()).total_seconds()))

    def _claim_reply(self, connection: Connection, chat_id: str, sender: Sender, html: str) -> _Claimed | Wait:
        now, channel = self.clock(), present_id(connection, chat_id)
        with ExitStack() as stack:
            if not _lock(stack, connection, channel):
                return Wait(now + BUSY)
            deliveries.take_over(connection, channel, now)
            claim = deliveries.claim_reply(connection, channel, self.limits, now)
            if isinstance(claim, Wait):
                return claim
            stack.pop_all()
            return _Claimed(channel, claim, Message(partial(sender.send, channel, html)))

    async def test(self, channel: str) -> Outcome:
        """Send a message that says only that messages arrive, also to a channel that is disabled.

        Raises WrongChannelError if nothing can be sent to it.
        """
        deadline = self.clock() + TEST_PATIENCE
        async with self._connected() as aside:
            while self.clock() <= deadline:
                claimed = await aside.call(self._claim_test, channel)
                if claimed is not None:
                    return await self._make(aside, claimed)
                await self.sleep(BUSY.total_seconds())
        return NotSent("another request to it is under way")

    def _claim_test(self, connection: Connection, channel: str) -> _Claimed | None:
        now, channel = self.clock(), present_id(connection, channel)
        carrier = self._carrier(connection, channel)
        message = carrier.write_test(connection, channel, now)
        with ExitStack() as stack:
            if not _lock(stack, connection, channel):
                return None
            request = deliveries.start_request(connection, channel, "test", carrier.limits, now)
            if request is None:
                return None
            stack.pop_all()
            return _Claimed(channel, Claim(request, "test"), message)

    def _carrier(self, connection: Connection, channel: str) -> Carrier:
        kind = kind_of(connection, channel)
        if kind is None:
            raise NoSuchChannelError(f"there is no channel {channel!r}")
        if kind not in self._carriers:
            raise WrongChannelError(f"nothing can be sent to {channel!r}: TELEGRAM_BOT_TOKEN is not set")
        return self._carriers[kind]

    def _connected(self) -> AbstractAsyncContextManager[Aside]:
        return connect_aside(self.database_url, application="txwatch alerts")

    async def _drain_channel(self, channel: str, deadline: datetime) -> None:
        async with self._connected() as aside:
            while not isinstance(step := await self._step(aside, channel), Idle):
                if isinstance(step, Wait):
                    if step.until > deadline:
                        return
                    await self.sleep(max(0.0, (step.until - self.clock()).total_seconds()))

    async def _run_channel(self, channel: str, stop: asyncio.Event) -> None:
        while not stop.is_set() and channel in self._active:
            try:
                async with self._connected() as aside:
                    while not stop.is_set() and channel in self._active:
                        # Before the step: what is committed during it must end the rest that follows.
                        self._wakes[channel].clear()
                        step = await self._step(aside, channel)
                        if isinstance(step, Idle | Wait):
                            await self._rest(step, stop, self._wakes[channel])
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("database_away", cause=str(error).strip())
                await self.sleep(RECONNECT_SECONDS)
            except Exception:
                # It must not end the delivery to the other channels.
                log.exception("channel_not_served", channel=channel)
                await self.sleep(RECONNECT_SECONDS)

    async def _rest(self, step: Idle | Wait, stop: asyncio.Event, wake: asyncio.Event) -> None:
        """Until the step is due, new alerts come, or the end."""
        rest = POLL if isinstance(step, Idle) else min(POLL, max(timedelta(0), step.until - self.clock()))
        await wait_for_first(stop.wait(), wake.wait(), self.sleep(rest.total_seconds()))

    async def _step(self, aside: Aside, channel: str) -> Step:
        """Send one message, if one may be sent now. Gives the decision."""
        step, claimed = await aside.call(self._claim, channel)
        if claimed is not None:
            outcome = await self._make(aside, claimed)
            name = type(outcome).__name__.lower()
            self.delivered[name] += 1
            why = {} if isinstance(outcome, Sent) else {"reason": outcome.reason}
            purpose = claimed.claim.purpose
            log.info("channel_request", channel=claimed.channel, purpose=purpose, outcome=name, **why)
        return step

    async def _make(self, aside: Aside, claimed: _Claimed) -> Outcome:
        """Make a request that is claimed, commit its outcome, and release the channel's lock."""
        try:
            outcome = await claimed.message.send()
        except Exception as error:
            # Not raised: what is not recorded would end a drain, and an edit would be tried again without an end. Where
            # it was raised is told, but not its text: it may hold a URL.
            name, place = type(error).__name__, "".join(format_tb(error.__traceback__))
            log.error("request_failed", channel=claimed.channel, purpose=claimed.claim.purpose, error=name, at=place)
            unknown = Unknown if is_chat(claimed.channel) else Unanswered
            outcome = unknown(f"the request failed: {name}")
        await aside.call(_end, claimed, outcome, self.clock())
        return outcome

    def _claim(self, connection: Connection, channel: str) -> tuple[Step, _Claimed | None]:
        """Take the channel's lock, decide, and commit the claim. Without a claim the lock is not kept."""
        channel = present_id(connection, channel)
        with ExitStack() as stack:
            if not _lock(stack, connection, channel):
                return Wait(self.clock() + BUSY), None
            step, prepared = self._prepare(connection, channel)
            if prepared is None:
                return step, None
            stack.pop_all()
            return step, _Claimed(channel, *prepared)

    def _prepare(self, connection: Connection, channel: str) -> tuple[Step, tuple[Claim, Message] | None]:
        """Decide, write the message, and commit the claim. Whatever fails before the commit has sent nothing."""
        now = self.clock()
        try:
            carrier = self._carrier(connection, channel)
        except NoSuchChannelError:
            return Idle(), None  # it was removed a moment ago
        deliveries.take_over(connection, channel, now)
        state = deliveries.read_channel(connection, channel, carrier.limits, now)
        step = next_step(state, now)
        if isinstance(step, Idle | Wait):
            return step, None
        try:
            message = carrier.write(connection, channel, step, state.refused_since, now)
        except psycopg.Error:
            raise
        except Exception as error:
            log.exception("message_not_written", channel=channel, step=type(step).__name__)
            _give_up(connection, channel, step, one_line(f"it cannot be written: {type(error).__name__}: {error}"), now)
            return Wait(now), None
        claimed = deliveries.claim(connection, channel, step, carrier.limits, now)
        return (Wait(now + BUSY), None) if claimed is None else (step, (claimed, message))


def _lock(stack: ExitStack, connection: Connection, channel: str) -> bool:
    """Take the channel's lock, if it is free, until the stack ends. Gives whether it is held."""
    held = take_if_free(connection, Lock.CHANNEL, channel)
    if held:
        stack.callback(release, connection, Lock.CHANNEL, channel)
    return held


def _end(connection: Connection, claimed: _Claimed, outcome: Outcome, now: datetime) -> None:
    try:
        deliveries.record(connection, claimed.channel, claimed.claim, outcome, now, claimed.message.sent)
    finally:
        release(connection, Lock.CHANNEL, claimed.channel)


def _record_moves(connection: Connection, moves: Mapping[str, str]) -> None:
    with connection.transaction():
        for former, present in moves.items():
            record_move(connection, former, present)


def _give_up(connection: Connection, channel: str, step: Request, reason: str, now: datetime) -> None:
    """Skip what no message can be written about: it would be tried for ever, and hold up all behind it."""
    match step:
        case SendAlert(key):
            deliveries.give_up(connection, channel, [key], reason)
        case SendDigest(keys, _):
            keys = [key for key in keys if not _has_a_line(connection, key, now)]
            deliveries.give_up(connection, channel, keys, reason)
        case EditAlert(key):
            deliveries.give_up_updates(connection, channel, key, reason)


def _has_a_line(connection: Connection, key: str, now: datetime) -> bool:
    try:
        digest_lines(read_digest_lines(connection, [key]), (), now)
    except psycopg.Error:
        raise
    except Exception:
        return False
    return True


@dataclass(frozen=True)
class Chats:
    """The chats that get alerts, the bot, and how other channels are reached.

    Without any channel alerts are raised, and stay in the database.
    """

    ids: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    api_url: str = "https://api.telegram.org"
    webhook_private: bool = False
    """Whether other channels may be at addresses that are not public."""

    @classmethod
    def of(cls, settings: Settings) -> "Chats":
        """Those that the settings name."""
        token = settings.telegram_bot_token
        secret = token.get_secret_value() if token else ""
        return cls(settings.telegram_chats, secret, settings.telegram_api_url, settings.webhook_private)

    @asynccontextmanager
    async def dispatcher(self, database_url: str) -> AsyncIterator[Dispatcher]:
        """The dispatcher to these chats and to all other channels."""
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(TelegramSender(self.token, self.api_url)) if self.token else None
            others = await open_carriers(stack, private=self.webhook_private, clock=utc_now)
            yield Dispatcher(database_url, sender, self.ids, others=others)
