"""Named keys of the API: whose they are, and what they may do. What is kept of one is its hash."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, get_args

from txwatch.errors import UserError
from txwatch.store.database import Connection, scalar, storable

Scope = Literal["read", "score", "manage"]
"""What a key may do: read, where reading needs a key; score transactions; change rules, channels, labels and cases."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
MAX_NAME = 60
OWNER: Final = "owner"
"""Whoever uses TXWATCH_API_KEY. No key has that name, so that it is known who did what."""
_PREFIX = "txw_"
"""By which a key is recognized in a file where it should not be."""


class BadKeyError(UserError):
    """A key that cannot be made, or that is not there."""


@dataclass(frozen=True)
class ApiKey:
    """A key, without itself. Times UTC; None for never."""

    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def add_key(
    connection: Connection, name: str, scopes: Sequence[str], now: datetime, expires_at: datetime | None = None
) -> str:
    """Make a key, in the caller's transaction, and return it: nobody can read it again. Raises BadKeyError.

    What is stored is its SHA-256. It has 256 random bits, so that nobody can guess it from that.
    """
    if not name or len(name) > MAX_NAME or storable(name) != name:
        raise BadKeyError(f"A key's name has 1 to {MAX_NAME} characters.")
    if name == OWNER:
        raise BadKeyError(f"{OWNER} is who uses TXWATCH_API_KEY: give the key of a person another name.")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise BadKeyError(f"A scope is {', '.join(SCOPES[:-1])} or {SCOPES[-1]}.")
    if expires_at is not None and expires_at <= now:
        raise BadKeyError("A key expires after now.")
    key = _PREFIX + secrets.token_urlsafe(32)
    made = connection.execute(
        "INSERT INTO api_keys (name, hash, scopes, created_at, expires_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (name) DO NOTHING",
        [name, _hash(key), [scope for scope in SCOPES if scope in scopes], now, expires_at],
    )
    if not made.rowcount:
        raise BadKeyError(f"There is a key named {name} already. Names stay, so that it is known who did what.")
    return key


def revoke_key(connection: Connection, name: str, now: datetime) -> None:
    """End a key, in the caller's transaction. Raises BadKeyError if there is none, or none any more."""
    gone = connection.execute("UPDATE api_keys SET revoked_at = %s WHERE name = %s AND revoked_at IS NULL", [now, name])
    if not gone.rowcount:
        raise BadKeyError(f"There is no key named {name}, or it is revoked already.")


def list_keys(connection: Connection) -> list[ApiKey]:
    """All keys that were ever made, by name."""
    rows = connection.execute(f"{_SELECT} ORDER BY name")
    return [ApiKey(*row) for row in rows]


def are_there_keys(connection: Connection) -> bool:
    """Whether any key was ever made."""
    return bool(scalar(connection, "SELECT EXISTS (SELECT FROM api_keys)"))


def find_key(connection: Connection, key: str, now: datetime) -> ApiKey | None:
    """Whose key this is; None for one that is unknown, revoked or expired.

    It is looked up by its hash: how long that takes says nothing about a key that has the hash's beginning.
    """
    row = connection.execute(f"{_SELECT} WHERE hash = %s", [_hash(key)]).fetchone()
    found = None if row is None else ApiKey(*row)
    if found is None or found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
        return None
    return found


_SELECT: Final = "SELECT name, scopes, created_at, expires_at, revoked_at FROM api_keys"


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()
