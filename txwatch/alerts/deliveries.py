"""The state of each delivery in Postgres, and how long a chat or everything has to wait.

- `pending`: no request was made, or the last one certainly did not arrive. Goes to `sending` only. A chat that takes no
  messages is held: all of its deliveries stay pending.
- `sending`: committed before the request starts. Only the holder of the chat's lock makes requests and records what
  became of them, so to whoever holds the lock a delivery in this state belongs to a process that is gone.
- `uncertain`: a request was made and nobody knows whether it arrived. It is never made again; the next digest names
  the alert. Only the process that made the request can still say `sent`, if it turns up after all.
- `sent`, `digested`, `dead`: final. A dead one has a reason and can never be sent, so the next digest names its alert
  too. A sent one's message may be edited, which changes nothing
  when it is done twice, and so needs no state: `shown_through` says what the message shows.

The lock is a session's advisory lock, so it ends with its process or its connection, and can never be left behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog

from txwatch.alerts.alert import Severity, adopt_what_waits, former_ids, present_id, record_move
from txwatch.alerts.planning import (
    MINUTE,
    SECOND,
    ChatState,
    Limits,
    PendingAlert,
    QuietHours,
    Request,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    backoff,
    chat_free_at,
    hold,
    next_step,
)
from txwatch.alerts.sender import ChatRefused, NotSent, Outcome, Refused, Sent, Unknown
from txwatch.alerts.store import Edition
from txwatch.store.database import Connection, statement
from txwatch.store.locks import Lock, if_free, wait_for

OTHERS_HAVE = timedelta(seconds=15)
"""Whoever raised an alert delivers it too; only what still waits after this needs a run of its own."""
RUN_STARTS_IN = timedelta(seconds=5)
LEFT_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class DeliveryLevels:
    """Deliveries by state, and from seen to sent in ms, over the alerts sent alone that were not late."""

    sent: int
    digested: int
    pending: int
    uncertain: int
    dead: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None


def delivery_needed(
    connection: Connection, chats: Sequence[str], now: datetime, limits: Limits | None = None
) -> str | None:
    """Why a delivery run should start now, in words for the operator, or None."""
    for chat_id in dict.fromkeys(present_id(connection, chat_id) for chat_id in chats):
        chat = read_chat(connection, chat_id, limits or Limits(), now)
        step = next_step(chat, now + RUN_STARTS_IN)
        overdue = sum(now - alert.created_at > OTHERS_HAVE for alert in chat.pending) + len(chat.unlisted)
        if isinstance(step, SendAlert | SendDigest) and overdue:
            return f"{overdue} alerts wait for chat {chat_id}"
    left = connection.execute(
        "SELECT count(*) FROM alert_deliveries JOIN telegram_requests ON request_id = id"
        " WHERE state = 'sending' AND started_at < %s",
        [now - LEFT_AFTER],
    ).fetchone()
    return f"{left[0]} deliveries were left half done" if left and left[0] else None


def read_delivery_levels(connection: Connection, since: datetime) -> DeliveryLevels:
    """How the deliveries of alerts raised since a moment stand."""
    row = connection.execute(statement("alerts", "delivery_levels"), {"since": since}).fetchone()
    if row is None:
        raise LookupError("the query for delivery levels gave no row")
    sent, digested, pending, uncertain, dead, latencies = row
    p50, p99 = latencies or (None, None)
    return DeliveryLevels(sent, digested, pending, uncertain, dead, p50 and round(p50, 1), p99 and round(p99, 1))


log = structlog.get_logger(__name__)

Purpose = Literal["alert", "digest", "edit", "reply"]

_MAX_REQUEST = timedelta(minutes=1)
"""No request takes longer; one that never ended belongs to a process that is gone."""
_KEEP_REQUESTS = timedelta(hours=1)


@dataclass(frozen=True)
class Claim:
    """A request that may be made now."""

    request_id: int
    purpose: Purpose


@contextmanager
def chat_lock(connection: Connection, chat_id: str) -> Iterator[bool]:
    """Hold the chat's lock for the block, if it is free. Gives whether it is held."""
    with if_free(connection, Lock.CHAT, of=chat_id) as held:
        yield held


def settle(connection: Connection, chat_id: str, now: datetime) -> int:
    """Under the lock: what a process that is gone left as sending is uncertain. Returns how many were."""
    with connection.transaction():
        connection.execute("INSERT INTO telegram_chats (chat_id) VALUES (%s) ON CONFLICT DO NOTHING", [chat_id])
        if former := former_ids(connection, chat_id):
            adopt_what_waits(connection, chat_id, former)
        connection.execute(
            "UPDATE telegram_requests SET ended_at = %s WHERE chat_id = %s AND ended_at IS NULL", [now, chat_id]
        )
        connection.execute("DELETE FROM telegram_requests WHERE started_at < %s", [now - _KEEP_REQUESTS])
        left = connection.execute(
            "UPDATE alert_deliveries SET state = 'uncertain', reason = %s WHERE state = 'sending' AND (chat_id = %s"
            # A request under a former id may still be under way, for it has another lock.
            " OR chat_id = ANY(%s) AND NOT EXISTS"
            " (SELECT FROM telegram_requests WHERE id = request_id AND started_at > %s))",
            ["the process that sent it ended before it knew whether it arrived", chat_id, former, now - _MAX_REQUEST],
        )
    return left.rowcount


def read_chat(connection: Connection, chat_id: str, limits: Limits, now: datetime) -> ChatState:
    """The chat as the decision about its next step now needs it."""
    chat = connection.execute(
        "SELECT retry_at, held_until, quiet_hours, refused_since FROM telegram_chats WHERE chat_id = %s", [chat_id]
    ).fetchone()
    retry_at, muted_until, quiet_hours, refused_since = chat or (None, None, None, None)
    quiet_until = None if quiet_hours is None else _quiet_until(chat_id, quiet_hours, now)
    requests = connection.execute(
        "SELECT purpose, ended_at FROM telegram_requests WHERE chat_id = %s AND ended_at IS NOT NULL"
        " ORDER BY ended_at DESC LIMIT 300",
        [chat_id],
    ).fetchall()
    pending = connection.execute(statement("alerts", "select_pending"), {"chat_id": chat_id})
    unlisted = connection.execute(
        "SELECT alert_key FROM alert_deliveries WHERE chat_id = %s AND state IN ('uncertain', 'dead')"
        " AND listed_in IS NULL ORDER BY alert_key",
        [chat_id],
    )
    ids = [chat_id, *former_ids(connection, chat_id)]
    outdated = connection.execute(statement("alerts", "select_outdated"), {"chat_id": chat_id, "ids": ids, "now": now})
    sent_alone = connection.execute(statement("alerts", "select_sent_alone"), {"chat_id": chat_id, "now": now})
    free_at = chat_free_at(chat_id, [ended_at for _, ended_at in requests], limits)
    return ChatState(
        pending=[PendingAlert(key, kind, Severity[severity], *rest) for key, kind, severity, *rest in pending],
        unlisted=[key for (key,) in unlisted],
        outdated=[key for (key,) in outdated],
        free_at=max(filter(None, (free_at, retry_at)), default=None),
        held_until=max(filter(None, (muted_until, quiet_until)), default=None),
        sent_alone=[SentAlone(at, kind, Severity[severity]) for at, kind, severity in sent_alone],
        last_digest=next((ended_at for purpose, ended_at in requests if purpose == "digest"), None),
        refused_since=refused_since,
    )


def claim(connection: Connection, chat_id: str, step: Request, limits: Limits, now: datetime) -> Claim | None:
    """Under the lock: commit what is about to be requested. None when there are too many requests at once."""
    purpose: Purpose = "edit"
    keys: Sequence[str] = ()
    uncertain: Sequence[str] = ()
    match step:
        case SendAlert(key):
            purpose, keys = "alert", [key]
        case SendDigest(keys, uncertain):
            purpose = "digest"
    with connection.transaction():
        request_id = start_request(connection, chat_id, purpose, limits, now)
        if request_id is None:
            return None
        connection.execute(
            "UPDATE alert_deliveries SET state = 'sending', attempts = attempts + 1, request_id = %s"
            " WHERE chat_id = %s AND alert_key = ANY(%s) AND state = 'pending'",
            [request_id, chat_id, list(keys)],
        )
        connection.execute(
            "UPDATE alert_deliveries SET listed_in = %s WHERE chat_id = %s AND alert_key = ANY(%s)",
            [request_id, chat_id, list(uncertain)],
        )
    return Claim(request_id, purpose)


def claim_reply(connection: Connection, chat_id: str, limits: Limits, now: datetime) -> Claim | Wait:
    """Under the lock: a request for an answer to somebody in the chat, or when to ask for it again."""
    free_at = read_chat(connection, chat_id, limits, now).free_at
    if free_at is not None and now < free_at:
        return Wait(free_at)
    earlier = connection.execute(
        "SELECT started_at FROM telegram_requests WHERE chat_id = %s AND purpose = 'reply'"
        " ORDER BY started_at DESC OFFSET %s LIMIT 1",
        [chat_id, limits.answers_per_minute - 1],
    ).fetchone()
    if earlier is not None and now < earlier[0] + MINUTE:
        return Wait(earlier[0] + MINUTE)
    with connection.transaction():
        request_id = start_request(connection, chat_id, "reply", limits, now)
    if request_id is None:
        return Wait(now + SECOND)
    return Claim(request_id, "reply")


def start_request(connection: Connection, chat_id: str, purpose: Purpose, limits: Limits, now: datetime) -> int | None:
    """Enter a request, in the caller's transaction. None when all processes together would make too many a second."""
    wait_for(connection, Lock.REQUESTS)
    row = connection.execute(
        "SELECT count(*) FROM telegram_requests WHERE started_at > %s AND (ended_at IS NULL OR ended_at > %s)",
        [now - _MAX_REQUEST, now - SECOND],
    ).fetchone()
    if row is None or row[0] >= limits.overall_per_second:
        return None
    started = connection.execute(
        "INSERT INTO telegram_requests (chat_id, purpose, started_at) VALUES (%s, %s, %s) RETURNING id",
        [chat_id, purpose, now],
    ).fetchone()
    return int(started[0]) if started else None


def record(connection: Connection, chat_id: str, made: Claim, outcome: Outcome, now: datetime) -> None:
    """Commit what became of a request."""
    with connection.transaction():
        end_request(connection, chat_id, made.request_id, outcome, now)
        match outcome:
            case Sent(message_id):
                # Also when somebody took this process for dead meanwhile: now it is known.
                connection.execute(
                    "UPDATE alert_deliveries SET state = %s, sent_at = %s, message_id = %s, reason = NULL"
                    " WHERE request_id = %s AND state IN ('sending', 'uncertain')",
                    ["digested" if made.purpose == "digest" else "sent", now, message_id, made.request_id],
                )
            case NotSent(reason) | ChatRefused(reason):
                _move(connection, made.request_id, "pending", reason)
                connection.execute(
                    "UPDATE alert_deliveries SET listed_in = NULL WHERE listed_in = %s", [made.request_id]
                )
            case Refused(reason):
                _move(connection, made.request_id, "dead", reason)
            case Unknown(reason):
                _move(connection, made.request_id, "uncertain", reason)


def record_edit(
    connection: Connection, chat_id: str, made: Claim, edition: Edition, outcome: Outcome, now: datetime
) -> None:
    """Commit what became of an edit, or of the message that was sent in place of one that stayed in a former chat.

    An edit is repeated until it is done or refused. A message is sent once, like all others.
    """
    anew = edition.chat_id != chat_id
    with connection.transaction():
        end_request(connection, chat_id, made.request_id, outcome, now)
        if isinstance(outcome, Sent | Refused) or (anew and isinstance(outcome, Unknown)):
            connection.execute(
                "UPDATE alert_deliveries SET shown_through = %s, reason = %s, chat_id = %s, message_id = %s"
                " WHERE chat_id = %s AND alert_key = %s",
                [
                    edition.through,
                    None if isinstance(outcome, Sent) else outcome.reason,
                    chat_id if isinstance(outcome, Sent) else edition.chat_id,
                    outcome.message_id if isinstance(outcome, Sent) else edition.message_id,
                    edition.chat_id,
                    edition.alert_key,
                ],
            )


def end_request(connection: Connection, chat_id: str, request_id: int, outcome: Outcome, now: datetime) -> None:
    """Note the end of a request and, for all processes, when the next one to the chat may be made."""
    ended = connection.execute(
        "UPDATE telegram_requests SET ended_at = %s WHERE id = %s RETURNING purpose", [now, request_id]
    ).fetchone()
    if isinstance(outcome, Sent) and ended != ("edit",):
        # An edit proves nothing: a chat may allow it that takes no messages.
        connection.execute(
            "UPDATE telegram_chats SET refused_since = NULL, refusal = NULL WHERE chat_id = %s", [chat_id]
        )
    if not isinstance(outcome, NotSent | ChatRefused):
        connection.execute(
            "UPDATE telegram_chats SET failures = 0, retry_at = NULL WHERE chat_id = %s AND failures > 0", [chat_id]
        )
        return
    row = connection.execute(
        "UPDATE telegram_chats SET failures = failures + 1 WHERE chat_id = %s RETURNING failures", [chat_id]
    ).fetchone()
    failures = int(row[0]) if row else 1
    if isinstance(outcome, ChatRefused):
        connection.execute(
            "UPDATE telegram_chats SET retry_at = %s, refusal = %s, refused_since = coalesce(refused_since, %s)"
            " WHERE chat_id = %s",
            [now + hold(failures), outcome.reason, now, chat_id],
        )
        return
    delay = outcome.retry_after if outcome.retry_after is not None else backoff(failures)
    connection.execute("UPDATE telegram_chats SET retry_at = %s WHERE chat_id = %s", [now + delay, chat_id])
    if outcome.moved_to is not None:
        record_move(connection, chat_id, outcome.moved_to)


def give_up(connection: Connection, chat_id: str, keys: Sequence[str], reason: str) -> None:
    """Under the lock: of these alerts no message can be written, so what waits is dead."""
    connection.execute(
        "UPDATE alert_deliveries SET state = 'dead', reason = %s"
        " WHERE chat_id = %s AND alert_key = ANY(%s) AND state = 'pending'",
        [reason, chat_id, list(keys)],
    )


def give_up_news(connection: Connection, chat_id: str, key: str, reason: str, now: datetime) -> None:
    """Under the lock: what is known by now of this alert cannot be written into its message, and is left out."""
    connection.execute(
        "UPDATE alert_deliveries SET shown_through = %s, reason = %s WHERE chat_id = ANY(%s) AND alert_key = %s",
        [now, reason, [chat_id, *former_ids(connection, chat_id)], key],
    )


def _quiet_until(chat_id: str, quiet_hours: str, now: datetime) -> datetime | None:
    try:
        return QuietHours.parse(quiet_hours).until(now)
    except ValueError as problem:
        # Such as a zone that this machine does not know: better a message at night than none.
        log.warning("quiet_hours_not_kept", chat=chat_id, cause=str(problem))
        return None


def _move(connection: Connection, request_id: int, state: str, reason: str) -> None:
    connection.execute(
        "UPDATE alert_deliveries SET state = %s, reason = %s WHERE request_id = %s AND state = 'sending'",
        [state, reason, request_id],
    )
