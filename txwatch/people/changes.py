"""Who changed what: rules, channels, labels, cases, keys and models. Kept for good."""

import getpass
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from txwatch.people.keys import MAX_NAME
from txwatch.store.database import Connection, storable

Area = Literal["rules", "channels", "labels", "cases", "keys", "models"]
MAX_DETAIL = 2_000


@dataclass(frozen=True)
class Change:
    """Somebody changed something. `who` is key:<name>, shell:<user> or telegram:<user>; `changed_at` is UTC."""

    id: int
    changed_at: datetime
    who: str
    area: str
    subject: str
    action: str
    detail: str


def shell_user() -> str:
    """Who types at this machine, as `who` of a change."""
    try:
        return f"shell:{storable(getpass.getuser())[:MAX_NAME]}"
    except (OSError, KeyError):  # of a container's user without a name
        return "shell:unknown"


def record_change(
    connection: Connection, who: str, area: Area, subject: str, action: str, now: datetime, detail: str = ""
) -> None:
    """Record a change, in the caller's transaction, so that both are kept or none. No secret may be in it."""
    connection.execute(
        "INSERT INTO changes (changed_at, who, area, subject, action, detail) VALUES (%s, %s, %s, %s, %s, %s)",
        [now, storable(who), area, storable(subject), action, storable(detail)[:MAX_DETAIL]],
    )
