"""Who made which model the champion.

The registry is a store of its own, which no transaction of the database spans. So what is to be done is committed first
(`promotions`), then the registry is told, then it is committed what became of it, together with the change that people
read. Whoever comes next settles what was left between by somebody whose process ended.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from txwatch.detection.registry import ModelRegistry, list_versions
from txwatch.errors import UserError
from txwatch.people.changes import record_change
from txwatch.store.database import Connection, scalar
from txwatch.store.locks import Lock, hold


class NoSuchVersionError(UserError):
    """The registry has no such version."""


class NothingBeforeError(UserError):
    """There is no champion before this one to go back to."""


Action = Literal["promote", "rollback"]
GATE = "gate"
"""Who promotes what passed the gate: no person, so it is no change of theirs."""


def promote_challenger(
    connection: Connection, registry: ModelRegistry, version: str, decision: Mapping[str, Any], now: datetime
) -> None:
    """Make a version that passed the gate the champion, and keep what the decision was based on."""
    with hold(connection, Lock.PROMOTION):
        settle(connection, registry, now)
        _promote(connection, registry, version, GATE, "promote", decision, now)


def make_champion(connection: Connection, registry: ModelRegistry, version: str, who: str, now: datetime) -> str:
    """Make a version the champion, whatever the gate says. Returns the version. Raises NoSuchVersionError.

    Runs take it at once, a live scorer with its next look at the registry.
    """
    with hold(connection, Lock.PROMOTION):
        settle(connection, registry, now)
        return _make_champion(connection, registry, version, who, "promote", now)


def roll_back(connection: Connection, registry: ModelRegistry, who: str, now: datetime) -> str:
    """Make the version that was champion before this one the champion again. Raises NothingBeforeError."""
    with hold(connection, Lock.PROMOTION):
        settle(connection, registry, now)
        champion = registry.champion_version()
        if champion is None:
            raise NothingBeforeError("there is no champion yet")
        before = _before(connection, registry, champion)
        if before is None:
            raise NothingBeforeError(f"version {champion} is the first champion")
        return _make_champion(connection, registry, before, who, "rollback", now)


def settle(connection: Connection, registry: ModelRegistry, now: datetime) -> None:
    """Under the lock: end what somebody began and did not end. It was done if the registry has that champion."""
    begun = connection.execute(
        "SELECT id, version, decision FROM promotions WHERE settled_at IS NULL ORDER BY id"
    ).fetchall()
    for number, version, decision in begun:
        made = registry.champion_version() == version
        if made:
            # Once more, for it may have ended before the registry had the reasons too.
            registry.promote(version, json.loads(decision))
        _end(connection, number, now, made=made)


def _make_champion(
    connection: Connection, registry: ModelRegistry, version: str, who: str, action: Action, now: datetime
) -> str:
    if version not in {one.version for one in list_versions(registry)}:
        raise NoSuchVersionError(f"there is no model version {version}")
    decision = {"by": who, "at": now.isoformat(), "before": registry.champion_version()}
    _promote(connection, registry, version, who, action, decision, now)
    return version


def _promote(
    connection: Connection,
    registry: ModelRegistry,
    version: str,
    who: str,
    action: Action,
    decision: Mapping[str, Any],
    now: datetime,
) -> None:
    number: int = scalar(
        connection,
        "INSERT INTO promotions (asked_at, who, action, version, before, decision) VALUES (%s, %s, %s, %s, %s, %s)"
        " RETURNING id",
        [now, who, action, version, registry.champion_version(), json.dumps(decision, default=str)],
    )
    registry.promote(version, decision)
    _end(connection, number, now, made=True)


def _end(connection: Connection, number: int, now: datetime, *, made: bool) -> None:
    """Commit what became of it, and the change if a person made it."""
    with connection.transaction():
        [(who, action, version, asked_at)] = connection.execute(
            "UPDATE promotions SET settled_at = %s, made = %s WHERE id = %s RETURNING who, action, version, asked_at",
            [now, made, number],
        )
        if made and who != GATE:
            record_change(connection, who, "models", version, action, asked_at)


def _before(connection: Connection, registry: ModelRegistry, champion: str) -> str | None:
    """Which version the champion replaced. Where nobody kept that, the newest one below it."""
    row = connection.execute(
        "SELECT before FROM promotions WHERE made AND version = %s AND before <> version ORDER BY id DESC LIMIT 1",
        [champion],
    ).fetchone()
    if row is not None:
        return str(row[0])
    return next((one.version for one in list_versions(registry) if int(one.version) < int(champion)), None)
