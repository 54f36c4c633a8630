"""Cases: what people do with an alert. It is acknowledged, assigned, noted, and closed with a verdict.

Every alert is a case that is open. What is done with it is kept for good, each with who did it and when; its state
follows from that. A verdict is the same feedback as the buttons below a message, and trains the next model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, get_args

import msgspec

from txwatch.alerts.store import Verdict, person_at_telegram, record_verdict
from txwatch.errors import UserError
from txwatch.people.changes import record_change
from txwatch.people.keys import MAX_NAME
from txwatch.store.database import Connection, storable

Action = Literal["acknowledge", "assign", "note", "close", "reopen"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MAX_TEXT = 2_000


class CaseError(UserError):
    """Something that cannot be done with a case."""


@dataclass(frozen=True)
class Step:
    """What somebody does with a case. `who` as in `txwatch.people.changes`.

    `person` is whose verdict it is, `who` if it is None. `assignee` is of assign, `verdict` of close; `text` is a note,
    or why it was closed.
    """

    alert_key: str
    who: str
    action: Action
    at: datetime
    assignee: str | None = None
    verdict: Verdict | None = None
    text: str | None = None
    person: str | None = None


def take_step(connection: Connection, step: Step) -> bool:
    """Do it, in a transaction. False if there is no such alert. Raises CaseError.

    The same step of the same person at the same moment is taken once: Telegram tells some twice.
    """
    _require_whole(step)
    with connection.transaction():
        if connection.execute("SELECT FROM alerts WHERE alert_key = %s", [step.alert_key]).fetchone() is None:
            return False
        text, assignee = step.text and storable(step.text), step.assignee and storable(step.assignee)
        taken = connection.execute(
            "INSERT INTO case_events (digest, alert_key, at, who, action, assignee, verdict, text)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (digest) DO NOTHING",
            [_digest(step), step.alert_key, step.at, storable(step.who), step.action, assignee, step.verdict, text],
        )
        if taken.rowcount:
            said = " ".join(part for part in (step.verdict, assignee, text) if part)
            record_change(connection, step.who, "cases", step.alert_key, step.action, step.at, said)
            if step.verdict is not None:
                record_verdict(connection, step.alert_key, step.verdict, step.at, step.person or step.who)
    return True


def _digest(step: Step) -> bytes:
    return sha256(msgspec.json.encode(step)).digest()


def _require_whole(step: Step) -> None:
    if step.action == "close" and step.verdict is None:
        raise CaseError("A case is closed with a verdict, useful or noise.")
    if step.action != "close" and step.verdict is not None:
        raise CaseError(f"A verdict closes a case; to {step.action} it takes none.")
    if (step.action == "assign") != (step.assignee is not None):
        raise CaseError("Assign a case to somebody, and only then name somebody.")
    if step.assignee is not None and not 0 < len(step.assignee) <= MAX_NAME:
        raise CaseError(f"A name has 1 to {MAX_NAME} characters.")
    if step.action == "note" and not step.text:
        raise CaseError("A note has a text.")
    if step.text is not None and len(step.text) > MAX_TEXT:
        raise CaseError(f"A text has at most {MAX_TEXT:,} characters.")


def close_by_button(
    connection: Connection, alert_key: str, who: str, user_id: int, verdict: Verdict, now: datetime
) -> None:
    """Close a case by a verdict that was given with a button, unless it is closed by that person with that one."""
    row = connection.execute(
        "SELECT who, verdict FROM case_events WHERE alert_key = %s AND action IN ('close', 'reopen')"
        " ORDER BY id DESC LIMIT 1",
        [alert_key],
    ).fetchone()
    if row != (who, verdict):
        person = person_at_telegram(user_id)
        take_step(connection, Step(alert_key, who, "close", now, verdict=verdict, person=person))


def keys_beginning(connection: Connection, prefix: str) -> Sequence[str]:
    """Up to two keys of alerts that begin with these digits."""
    rows = connection.execute(
        "SELECT alert_key FROM alerts WHERE alert_key >= %s AND alert_key < %s ORDER BY 1 LIMIT 2",
        [prefix, prefix + "g"],
    )
    return [key for (key,) in rows]
