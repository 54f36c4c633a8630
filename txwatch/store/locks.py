"""All advisory locks of the database; nothing else takes one. A lock ends with its transaction or connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, unique
from typing import LiteralString

from txwatch.store.database import Connection, scalar


@unique
class Lock(IntEnum):
    """What only one process at a time may do. A number is never reused for something else: an older program may run."""

    MIGRATION = 7_842_001
    """Two migrations at once would both try to create the tables."""
    CHANNEL = 7_842_002
    """One of each channel: its holder makes the requests to it."""
    PUBLICATION = 7_842_003
    """A context must not sum buckets of a lower publication that are not committed yet."""
    RECOVERY = 7_842_004
    """Two recoveries at once would both ask the API, which answers one."""
    DAYS = 7_842_005
    """Two writers at once would both make the day's partition."""
    REQUESTS = 7_842_006
    """The requests to Telegram of all processes are counted together."""
    REGISTRY = 7_842_007
    """Two processes at once would both try to create MLflow's tables."""
    PRICE = 7_842_008
    """Two workers at once would both ask for the price."""
    RULES = 7_842_009
    """Two changes of a rule at once would both make its next version."""
    RULE_CAPS = 7_842_010
    """Two lanes at once would both find room below a rule's cap."""
    STREAM = 7_842_011
    """A number of the stream must not be given while a lower one is not committed yet."""

    ARCHIVE = 7_842_012
    """One of each dataset and day: two runs at once would both write its file."""
    FEATURES = 7_842_013
    """One of each window: two runs at once would both write its features, and no key would keep one from it."""
    PROMOTION = 7_842_014
    """Two promotions at once would both move the champion's alias, and neither would know which one it replaced."""


WAIT: LiteralString = "SELECT pg_advisory_xact_lock(%s)"
"""What `wait_for` executes; for connections of asyncio, which it does not take."""


def wait_for(connection: Connection, lock: Lock, of: str | None = None) -> None:
    """Wait for a lock, and hold it until the end of the caller's transaction. `of` names one of many, a window say."""
    key, values = _key(lock, of)
    connection.execute(f"SELECT pg_advisory_xact_lock({key})", values)


def take_if_free(connection: Connection, lock: Lock, of: str | None = None) -> bool:
    """Take a lock if it is free, and say whether. `of` names one of many, such as a chat.

    It is held until `release`, or the end of the connection.
    """
    key, values = _key(lock, of)
    return bool(scalar(connection, f"SELECT pg_try_advisory_lock({key})", values))


def release(connection: Connection, lock: Lock, of: str | None = None) -> None:
    """Give a lock back that `take_if_free` took; with a connection that has ended it was given back."""
    if not connection.closed:
        key, values = _key(lock, of)
        connection.execute(f"SELECT pg_advisory_unlock({key})", values)


@contextmanager
def hold(connection: Connection, lock: Lock) -> Iterator[None]:
    """Wait for a lock, and hold it for the block, over several transactions."""
    connection.execute("SELECT pg_advisory_lock(%s)", [int(lock)])
    try:
        yield
    finally:
        release(connection, lock)


@contextmanager
def if_free(connection: Connection, lock: Lock, of: str | None = None) -> Iterator[bool]:
    """Hold a lock for the block if it is free, and give whether it is held."""
    held = take_if_free(connection, lock, of)
    try:
        yield held
    finally:
        if held:
            release(connection, lock, of)


def _key(lock: Lock, of: str | None) -> tuple[LiteralString, list[int | str]]:
    """What names a lock in SQL. Locks of one number and locks of two numbers never meet."""
    return ("%s", [int(lock)]) if of is None else ("%s, hashtext(%s)", [int(lock), of])
