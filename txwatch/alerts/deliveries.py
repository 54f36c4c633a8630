"""The state of each delivery in Postgres, and how long a channel or everything has to wait.

- `pending`: no request was made, or the last one certainly did not arrive. Goes to `sending` only. All deliveries of a
  channel that takes no messages stay pending.
- `sending`: committed before the request starts. Only the holder of the channel's lock makes requests and records their
  outcomes, so to whoever holds the lock a delivery in this state belongs to a process that is gone.
- `uncertain`: a request was made and nobody knows whether it arrived. It is never made again; the next digest names
  the alert. Only the process that made the request can still turn it into `sent`. But to a webhook it is made again,
  with the same key, once the first one must have ended.
- `sent`, `digested`, `dead`: final. A dead one can never be sent and has a reason; the next digest names its alert too.
  The message of a sent one may be edited, even twice, for that changes nothing: `shown_updates` counts what it shows.

The lock is a session's advisory lock, so it ends with its process or its connection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
import structlog

from txwatch.alerts.alert import adopt_deliveries, former_ids, present_id, record_move
from txwatch.alerts.planning import (
    LIMITS,
    MAX_BACKOFF,
    MAX_HOLD,
    MINUTE,
    SECOND,
    ChannelState,
    Limits,
    PendingAlert,
    Request,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    backoff,
    chat_free_at,
    next_step,
)
from txwatch.alerts.store import SentMessage
from txwatch.channels.channel import is_chat
from txwatch.channels.outcomes import ChannelRefused, Gone, NotSent, Outcome, Refused, Sent, Unanswered, Unknown
from txwatch.channels.quiet_hours import QuietHours
from txwatch.channels.store import active_channels, kind_of
from txwatch.detection.kinds import Severity
from txwatch.store.database import Connection, scalar, statement
from txwatch.store.locks import Lock, wait_for

RAISER_DELIVERS_IN = timedelta(seconds=15)
"""The process that raised an alert delivers it too; what still waits after this needs a run of its own."""
RUN_STARTS_IN = timedelta(seconds=5)
LEFT_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class DeliveryLevels:
    """Deliveries by state, and ms from seen to sent, of alerts sent alone that were not late."""

    sent: int
    digested: int
    pending: int
    uncertain: int
    dead: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None


def delivery_needed(connection: Connection, chats: Sequence[str], now: datetime) -> str | None:
    """Why a delivery run should start now, to these chats or to other channels, for the operator, or None."""
    ours = [*(present_id(connection, chat_id) for chat_id in chats), *active_channels(connection)]
    for channel in dict.fromkeys(ours):
        chat = read_channel(connection, channel, LIMITS[kind_of(connection, channel) or "telegram"], now)
        step = next_step(chat, now + RUN_STARTS_IN)
        overdue = sum(now - alert.created_at > RAISER_DELIVERS_IN for alert in chat.pending) + len(chat.unlisted)
        if isinstance(step, SendAlert | SendDigest) and overdue:
            return f"{overdue} alerts wait for channel {channel}"
    [(left,)] = connection.execute(
        "SELECT count(*) FROM alert_deliveries JOIN channel_requests ON request_id = id"
        " WHERE state = 'sending' AND started_at < %s",
        [now - LEFT_AFTER],
    )
    return f"{left} deliveries were left half done" if left else None


def read_delivery_levels(connection: Connection, since: datetime) -> DeliveryLevels:
    """The deliveries of alerts raised since a moment."""
    [(*counts, latencies)] = connection.execute(statement("alerts", "delivery_levels"), {"since": since})
    return DeliveryLevels(*counts, *(ms and round(ms, 1) for ms in latencies or (None, None)))


log = structlog.get_logger(__name__)

Purpose = Literal["alert", "digest", "edit", "reply", "test"]

_MAX_REQUEST = timedelta(minutes=1)
"""A request without an end that is older belongs to a process that is gone."""
_KEEP_REQUESTS = timedelta(hours=1)
_KEEP_DIGESTS = timedelta(days=2)
"""Longer than digests may be apart."""
MOST_PENDING = 20_000
"""Alerts that wait for a channel and are looked at in one step. The others come after these."""
TOLD_AFTER = 8
"""Requests in a row that fail before a channel besides chats counts as one that refuses: after some minutes."""
_STATES = {
    NotSent: "pending",
    ChannelRefused: "pending",
    Gone: "pending",
    Refused: "dead",
    Unknown: "uncertain",
    Unanswered: "uncertain",
}


@dataclass(frozen=True)
class Claim:
    """A request that may be made now."""

    request_id: int
    purpose: Purpose


def take_over(connection: Connection, channel: str, now: datetime) -> int:
    """Under the lock: what a process that is gone left as sending becomes uncertain. Returns how many."""
    with connection.transaction():
        if is_chat(channel):
            connection.execute("INSERT INTO channels (channel) VALUES (%s) ON CONFLICT DO NOTHING", [channel])
        if former := former_ids(connection, channel):
            adopt_deliveries(connection, channel, former)
        connection.execute(
            "UPDATE channel_requests SET ended_at = %s WHERE channel = %s AND ended_at IS NULL", [now, channel]
        )
        # Of all channels; what another one deletes just now is left to it, which may wait for rows of its own.
        connection.execute(
            "DELETE FROM channel_requests WHERE id IN (SELECT id FROM channel_requests"
            " WHERE started_at < %s AND (purpose <> 'digest' OR started_at < %s) FOR UPDATE SKIP LOCKED)",
            [now - _KEEP_REQUESTS, now - _KEEP_DIGESTS],
        )
        ahead = connection.execute(
            "DELETE FROM channel_requests WHERE channel = %s AND greatest(started_at, ended_at) > %s",
            [channel, now + _MAX_REQUEST],
        )
        if ahead.rowcount:
            # They were made while a clock was ahead: nothing would be sent until that moment comes.
            connection.execute("UPDATE channels SET retry_at = NULL WHERE channel = %s", [channel])
        left = connection.execute(
            "UPDATE alert_deliveries SET state = 'uncertain', reason = %s WHERE state = 'sending' AND (channel = %s"
            # A request under a former id has another lock, and may still run.
            " OR channel = ANY(%s) AND NOT EXISTS"
            " (SELECT FROM channel_requests WHERE id = request_id AND started_at > %s))",
            ["the process that sent it ended before it knew whether it arrived", channel, former, now - _MAX_REQUEST],
        )
        if not is_chat(channel):
            ended = {"channel": channel, "began_before": now - _MAX_REQUEST}
            connection.execute(statement("alerts", "repeat_unanswered"), ended)
    return left.rowcount


_NO_ROW: tuple[Any, ...] = (None, None, None, None, "telegram", False, None, 0)
"""Of a chat to which nothing was ever sent."""


def read_channel(connection: Connection, channel: str, limits: Limits, now: datetime) -> ChannelState:
    """What the channel's next step depends on."""
    chat = connection.execute(
        "SELECT retry_at, held_until, quiet_hours, refused_since, kind, disabled_at IS NOT NULL, digest_every, failures"
        " FROM channels WHERE channel = %s",
        [channel],
    ).fetchone()
    retry_at, muted_until, quiet_hours, refused_since, kind, disabled, digest_every, failures = chat or _NO_ROW
    quiet_until = None if quiet_hours is None else _quiet_until(channel, quiet_hours, now)
    requests = connection.execute(
        "SELECT purpose, ended_at FROM channel_requests WHERE channel = %s AND ended_at IS NOT NULL"
        " ORDER BY ended_at DESC LIMIT 300",
        [channel],
    ).fetchall()
    # It is looked each second. While nothing may be sent, one that waits says as much as all of them.
    most = 1 if retry_at is not None and now < retry_at else MOST_PENDING
    pending = connection.execute(statement("alerts", "select_pending"), {"channel": channel, "most": most})
    unlisted = connection.execute(
        "SELECT alert_key FROM alert_deliveries WHERE channel = %s AND state IN ('uncertain', 'dead')"
        " AND listed_in IS NULL ORDER BY alert_key",
        [channel],
    )
    ids = [channel, *former_ids(connection, channel)]
    news = {"channel": channel, "ids": ids, "now": now, "again": MAX_BACKOFF}
    outdated = connection.execute(statement("alerts", "select_outdated"), news)
    sent_alone = connection.execute(statement("alerts", "select_sent_alone"), {"channel": channel, "now": now})
    free_at = chat_free_at(channel, [ended_at for _, ended_at in requests], limits)
    return ChannelState(
        pending=[PendingAlert(key, kind, Severity[severity], *rest) for key, kind, severity, *rest in pending],
        unlisted=[key for (key,) in unlisted],
        outdated=[key for (key,) in outdated],
        free_at=max(filter(None, (free_at, retry_at)), default=None),
        held_until=max(filter(None, (muted_until, quiet_until)), default=None),
        sent_alone=[SentAlone(at, kind, Severity[severity]) for at, kind, severity in sent_alone],
        last_digest=next((ended_at for purpose, ended_at in requests if purpose == "digest"), None),
        refused_since=refused_since,
        kind=kind,
        disabled=disabled,
        digest_every=digest_every,
        failures=failures,
    )


def claim(connection: Connection, channel: str, step: Request, limits: Limits, now: datetime) -> Claim | None:
    """Under the lock: commit what is about to be requested. None when there are too many requests at once."""
    purpose: Purpose = "edit"
    keys, unlisted = list[str](), list[str]()
    match step:
        case SendAlert(key):
            purpose, keys = "alert", [key]
        case SendDigest(keys, unlisted):
            purpose = "digest"
    with connection.transaction():
        request_id = _insert_request(connection, channel, purpose, now)
        connection.execute(
            "UPDATE alert_deliveries SET state = 'sending', attempts = attempts + 1, request_id = %s"
            " WHERE channel = %s AND alert_key = ANY(%s) AND state = 'pending'",
            [request_id, channel, keys],
        )
        connection.execute(
            "UPDATE alert_deliveries SET listed_in = %s WHERE channel = %s AND alert_key = ANY(%s)",
            [request_id, channel, unlisted],
        )
        # Last, for all channels wait for its lock: rows of this one that somebody has locked must hold up no other.
        if _are_too_many(connection, request_id, limits, now):
            raise psycopg.Rollback
        return Claim(request_id, purpose)
    return None


def claim_reply(connection: Connection, channel: str, limits: Limits, now: datetime) -> Claim | Wait:
    """Under the lock: a request for an answer to somebody in the chat, or when to try again."""
    free_at = read_channel(connection, channel, limits, now).free_at
    if free_at is not None and now < free_at:
        return Wait(free_at)
    earlier = connection.execute(
        "SELECT started_at FROM channel_requests WHERE channel = %s AND purpose = 'reply'"
        " ORDER BY started_at DESC OFFSET %s LIMIT 1",
        [channel, limits.answers_per_minute - 1],
    ).fetchone()
    if earlier is not None and now < earlier[0] + MINUTE:
        return Wait(earlier[0] + MINUTE)
    request_id = start_request(connection, channel, "reply", limits, now)
    return Wait(now + SECOND) if request_id is None else Claim(request_id, "reply")


def start_request(connection: Connection, channel: str, purpose: Purpose, limits: Limits, now: datetime) -> int | None:
    """Record a request, in a transaction. None when all processes together would make too many a second."""
    with connection.transaction():
        request_id = _insert_request(connection, channel, purpose, now)
        if _are_too_many(connection, request_id, limits, now):
            raise psycopg.Rollback
        return request_id
    return None


def _insert_request(connection: Connection, channel: str, purpose: Purpose, now: datetime) -> int:
    return int(
        scalar(
            connection,
            "INSERT INTO channel_requests (channel, purpose, started_at) VALUES (%s, %s, %s) RETURNING id",
            [channel, purpose, now],
        )
    )


def _are_too_many(connection: Connection, request_id: int, limits: Limits, now: datetime) -> bool:
    """Whether all processes together would make too many requests a second with this one."""
    if limits.overall_per_second is None:
        return False
    wait_for(connection, Lock.REQUESTS)
    running: int = scalar(
        connection,
        "SELECT count(*) FROM channel_requests LEFT JOIN channels USING (channel)"
        " WHERE started_at > %s AND started_at < %s AND (ended_at IS NULL OR ended_at > %s)"
        " AND coalesce(kind, 'telegram') = 'telegram' AND id <> %s",
        [now - _MAX_REQUEST, now + _MAX_REQUEST, now - SECOND, request_id],
    )
    return running >= limits.overall_per_second


def record(
    connection: Connection, channel: str, made: Claim, outcome: Outcome, now: datetime, sent: SentMessage | None = None
) -> None:
    """Commit the outcome of a request, by `record_edit` if it was about a message that was sent before."""
    if sent is not None:
        record_edit(connection, channel, made, sent, outcome, now)
        return
    with connection.transaction():
        end_request(connection, channel, made.request_id, outcome, now)
        if isinstance(outcome, Sent):
            # Also when another process took this one for dead meanwhile.
            connection.execute(
                "UPDATE alert_deliveries SET state = %s, sent_at = %s, message_id = %s, reason = NULL"
                " WHERE request_id = %s AND state IN ('sending', 'uncertain')",
                ["digested" if made.purpose == "digest" else "sent", now, outcome.message_id, made.request_id],
            )
            return
        connection.execute(
            "UPDATE alert_deliveries SET state = %s, reason = %s WHERE request_id = %s AND state = 'sending'",
            [_STATES[type(outcome)], outcome.reason, made.request_id],
        )
        if isinstance(outcome, NotSent | ChannelRefused | Gone):
            connection.execute("UPDATE alert_deliveries SET listed_in = NULL WHERE listed_in = %s", [made.request_id])


def record_edit(
    connection: Connection, channel: str, made: Claim, sent: SentMessage, outcome: Outcome, now: datetime
) -> None:
    """Commit the outcome of an edit, or of the new message for one that is under a former id of the chat.

    An edit is repeated until it is done or refused; one of which nothing is known waits, and lets others go first. A
    new message is sent once, like all others.
    """
    with connection.transaction():
        end_request(connection, channel, made.request_id, outcome, now)
        unknown_at = now if isinstance(outcome, Unknown) else None
        query = "UPDATE alert_deliveries SET edit_unknown_at = %s WHERE channel = %s AND alert_key = %s"
        connection.execute(query, [unknown_at, sent.channel, sent.alert_key])
        place: tuple[str | None, str, int] | None = None
        if isinstance(outcome, Sent):
            place = None, channel, outcome.message_id
        elif isinstance(outcome, Refused) or (sent.channel != channel and isinstance(outcome, Unknown)):
            place = outcome.reason, sent.channel, sent.message_id
        if place is not None:
            connection.execute(
                "UPDATE alert_deliveries SET shown_updates = %s, reason = %s, channel = %s, message_id = %s"
                " WHERE channel = %s AND alert_key = %s AND shown_updates IS NOT NULL",
                [sent.shown, *place, sent.channel, sent.alert_key],
            )


def end_request(connection: Connection, channel: str, request_id: int, outcome: Outcome, now: datetime) -> None:
    """Record the end of a request and, for all processes, when the next one to the channel may be made."""
    ended = connection.execute(
        "UPDATE channel_requests SET ended_at = %s WHERE id = %s RETURNING purpose", [now, request_id]
    ).fetchone()
    if ended is None and not is_chat(channel):
        return  # the channel was removed meanwhile; another one may have its name
    if isinstance(outcome, Sent) and ended != ("edit",):
        # A chat that takes no messages may still allow an edit.
        connection.execute("UPDATE channels SET refused_since = NULL, refusal = NULL WHERE channel = %s", [channel])
    if isinstance(outcome, Sent | Refused | Unknown):
        connection.execute(
            "UPDATE channels SET failures = 0, retry_at = NULL WHERE channel = %s AND failures > 0", [channel]
        )
        return
    row = connection.execute(
        "UPDATE channels SET failures = failures + 1 WHERE channel = %s RETURNING failures, kind", [channel]
    ).fetchone()
    failures, kind = row or (1, "telegram")
    moved_to, delay = None, backoff(failures)
    if isinstance(outcome, NotSent):
        # One that asks for no pause at all would be asked again without an end, as fast as it answers.
        moved_to, delay = outcome.moved_to, outcome.retry_after or delay
    elif isinstance(outcome, ChannelRefused | Gone):
        delay = backoff(failures, MINUTE, MAX_HOLD)
    connection.execute("UPDATE channels SET retry_at = %s WHERE channel = %s", [now + delay, channel])
    if isinstance(outcome, ChannelRefused | Gone) or (kind != "telegram" and failures >= TOLD_AFTER):
        connection.execute(
            "UPDATE channels SET refusal = %s, refused_since = coalesce(refused_since, %s) WHERE channel = %s",
            [outcome.reason, now, channel],
        )
    if isinstance(outcome, Gone):
        connection.execute("UPDATE channels SET disabled_at = %s WHERE channel = %s", [now, channel])
    if moved_to is not None:
        record_move(connection, channel, moved_to)


def give_up(connection: Connection, channel: str, keys: Sequence[str], reason: str) -> None:
    """Under the lock: no message can be written about these alerts, so their pending deliveries are dead."""
    connection.execute(
        "UPDATE alert_deliveries SET state = 'dead', reason = %s"
        " WHERE channel = %s AND alert_key = ANY(%s) AND state = 'pending'",
        [reason, channel, list(keys)],
    )


def give_up_updates(connection: Connection, channel: str, key: str, reason: str) -> None:
    """Under the lock: the updates of this alert cannot be written into its message, and are left out."""
    connection.execute(
        "UPDATE alert_deliveries SET reason = %(reason)s,"
        " shown_updates = (SELECT count(*) FROM alert_updates WHERE alert_key = %(key)s)"
        " WHERE channel = ANY(%(ids)s) AND alert_key = %(key)s AND shown_updates IS NOT NULL",
        {"reason": reason, "key": key, "ids": [channel, *former_ids(connection, channel)]},
    )


def _quiet_until(channel: str, quiet_hours: str, now: datetime) -> datetime | None:
    try:
        return QuietHours.parse(quiet_hours).until(now)
    except ValueError as problem:
        # Such as a zone that this machine does not know. Better a message at night than none.
        log.warning("quiet_hours_not_kept", chat=channel, cause=str(problem))
        return None
