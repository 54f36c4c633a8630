"""Carriers, one for each kind of channel: each writes a message in the form of its channel, ready to be sent."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from txwatch.alerts.alert import Alert, is_of_transaction
from txwatch.alerts.events import alert_event, trial_event
from txwatch.alerts.messages import DigestLine, Line, Piece, alert_lines, digest_lines, is_silent, to_html, to_text
from txwatch.alerts.planning import LIMITS, EditAlert, Limits, Request, SendDigest
from txwatch.alerts.sender import Sender
from txwatch.alerts.standing import read_standing
from txwatch.alerts.store import BUTTONS, SentMessage, read_alerts, read_sent_message
from txwatch.channels.apprise import Notifier
from txwatch.channels.channel import Kind
from txwatch.channels.outcomes import Outcome
from txwatch.channels.store import read_target
from txwatch.channels.webhook import WebhookPoster
from txwatch.clock import Clock
from txwatch.labels.store import read_known
from txwatch.store.database import Connection
from txwatch.store.transactions import read_transaction
from txwatch.wire.transaction import Transaction

TEST = "🔔 Test: alerts of txwatch arrive here"


@dataclass(frozen=True)
class Message:
    """A message that is written. `send` makes its one request, and raises nothing."""

    send: Callable[[], Awaitable[Outcome]] = field(repr=False)
    sent: SentMessage | None = None
    """The message whose updates it tells."""


class Carrier(Protocol):
    """Writes to channels of one kind."""

    @property
    def limits(self) -> Limits:
        """How fast it may send."""
        ...

    def write(
        self, connection: Connection, channel: str, step: Request, refused_since: datetime | None, now: datetime
    ) -> Message:
        """What a step asks for. Whatever it raises, it has sent nothing."""
        ...

    def write_test(self, connection: Connection, channel: str, now: datetime) -> Message:
        """A message that says only that messages arrive."""
        ...


@dataclass(frozen=True)
class TelegramCarrier:
    """Writes messages with buttons, and edits them."""

    sender: Sender
    limits: Limits

    def write(
        self, connection: Connection, channel: str, step: Request, refused_since: datetime | None, now: datetime
    ) -> Message:
        if isinstance(step, SendDigest):
            lines = read_digest_lines(connection, step.alert_keys)
            html = to_html(digest_lines(lines, step.uncertain, now, refused_since))
            silent = is_silent([line.alert for line in lines])
            return Message(partial(self.sender.send, channel, html, silent=silent))
        alert, transaction, sent = _about(connection, channel, step)
        html = to_html(_lines(connection, alert, transaction, sent, now))
        buttons = BUTTONS if is_of_transaction(alert.alert_key) else ()
        if sent is not None and sent.channel == channel:
            return Message(partial(self.sender.edit, channel, sent.message_id, html, buttons=buttons), sent)
        # One under a former id of the chat cannot be edited, and is sent again.
        silent = sent is not None or is_silent([alert])
        return Message(partial(self.sender.send, channel, html, silent=silent, buttons=buttons), sent)

    def write_test(self, connection: Connection, channel: str, now: datetime) -> Message:  # noqa: ARG002
        return Message(partial(self.sender.send, channel, to_html([[Piece(TEST, "b")]])))


@dataclass(frozen=True)
class WebhookCarrier:
    """Writes events, one for each alert and each of its revisions."""

    poster: WebhookPoster
    limits: Limits = LIMITS["webhook"]

    def write(
        self,
        connection: Connection,
        channel: str,
        step: Request,
        refused_since: datetime | None,  # noqa: ARG002
        now: datetime,
    ) -> Message:
        alert, transaction, sent = _about(connection, channel, step)
        # Without the moment of sending: what is posted again under its key says the same.
        text = to_text(_lines(connection, alert, transaction, sent, None))
        event = alert_event(alert, transaction, sent, text)
        return Message(partial(self.poster.post, read_target(connection, channel, now), event), sent)

    def write_test(self, connection: Connection, channel: str, now: datetime) -> Message:
        return Message(partial(self.poster.post, read_target(connection, channel, now), trial_event(now)))


@dataclass(frozen=True)
class AppriseCarrier:
    """Writes plain text, whose first line is the title."""

    notifier: Notifier
    limits: Limits = LIMITS["apprise"]

    def write(
        self, connection: Connection, channel: str, step: Request, refused_since: datetime | None, now: datetime
    ) -> Message:
        if isinstance(step, SendDigest):
            digest = read_digest_lines(connection, step.alert_keys)
            return self._message(connection, channel, digest_lines(digest, step.uncertain, now, refused_since), now)
        alert, transaction, sent = _about(connection, channel, step)
        return self._message(connection, channel, _lines(connection, alert, transaction, sent, now), now)

    def write_test(self, connection: Connection, channel: str, now: datetime) -> Message:
        return self._message(connection, channel, [[Piece(TEST)]], now)

    def _message(self, connection: Connection, channel: str, lines: Sequence[Line], now: datetime) -> Message:
        title, body = to_text(lines[:1]), to_text(lines[1:])
        target = read_target(connection, channel, now)
        return Message(partial(self.notifier.notify, channel, target, title, body or title))


async def open_carriers(stack: AsyncExitStack, *, private: bool, clock: Clock) -> Mapping[Kind, Carrier]:
    """The carriers of all channels besides chats. `private` allows addresses that are not public."""
    poster = await stack.enter_async_context(WebhookPoster(private=private, clock=clock))
    return {"webhook": WebhookCarrier(poster), "apprise": AppriseCarrier(Notifier(private=private))}


def read_digest_lines(connection: Connection, keys: Sequence[str]) -> list[DigestLine]:
    """The lines of a digest about these alerts."""
    rows = connection.execute("SELECT txid, value_sat FROM transactions WHERE txid = ANY(%s)", [list(keys)])
    values: dict[str, int] = dict(rows.fetchall())
    return [DigestLine(alert, values.get(alert.alert_key)) for alert in read_alerts(connection, keys)]


def _about(connection: Connection, channel: str, step: Request) -> tuple[Alert, Transaction | None, SentMessage | None]:
    if isinstance(step, SendDigest):
        raise TypeError("a digest is about several alerts")
    (alert,) = read_alerts(connection, [step.alert_key])
    sent = read_sent_message(connection, channel, step.alert_key) if isinstance(step, EditAlert) else None
    return alert, read_transaction(connection, alert.alert_key), sent


def _lines(
    connection: Connection,
    alert: Alert,
    transaction: Transaction | None,
    sent: SentMessage | None,
    now: datetime | None,
) -> Sequence[Line]:
    updates, sent_at = ((), now) if sent is None else (sent.updates, now and sent.sent_at)
    if transaction is None:
        return alert_lines(alert, None, sent_at, updates)
    known, standing = read_known(connection, transaction.addresses), read_standing(connection, alert, transaction)
    return alert_lines(alert, transaction, sent_at, updates, known, standing)
