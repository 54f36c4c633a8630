"""Every advisory lock is named in one place, and none holds up what has nothing to do with it."""

import re
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.builders import T0
from txwatch.alerts.deliveries import start_request
from txwatch.alerts.planning import Limits
from txwatch.features.publications import next_publication
from txwatch.store.database import connect
from txwatch.store.locks import Lock, if_free, wait_for
from txwatch.store.retention import ensure_days

PROJECT = Path(__file__).parents[2]
TAKES_A_LOCK = re.compile(r"pg_(try_)?advisory")
AT_ONCE = "SET lock_timeout = '1ms'"
"""Whoever has to wait for a lock fails; whoever need not takes all the time that it needs."""


def test_no_other_module_takes_an_advisory_lock() -> None:
    sources = [
        path
        for folder in ("txwatch", "resources", "sensors", "blockchain_assets", "feature_repo")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in {".py", ".sql"} and TAKES_A_LOCK.search(path.read_text())
    ]
    assert sources == [PROJECT / "txwatch/store/locks.py"]


def test_an_open_publication_holds_up_no_message(database_url: str) -> None:
    with connect(database_url) as publishing, connect(database_url) as sending:
        sending.execute(AT_ONCE)
        with publishing.transaction():
            next_publication(publishing)
            with if_free(sending, Lock.CHANNEL, "1") as held, sending.transaction():
                assert held
                assert start_request(sending, "1", "alert", Limits(), T0) is not None


def test_a_recovery_holds_up_no_new_day(database_url: str) -> None:
    with connect(database_url) as recovering, connect(database_url) as writing:
        writing.execute(AT_ONCE)
        with if_free(recovering, Lock.RECOVERY) as held:
            assert held
            ensure_days(writing, "transaction_features", T0, T0 + timedelta(days=1))


@pytest.mark.parametrize("lock", Lock)
def test_a_lock_is_held_by_one_at_a_time_and_holds_up_none_of_the_others(database_url: str, lock: Lock) -> None:
    with connect(database_url) as first, connect(database_url) as second:
        second.execute(AT_ONCE)
        with first.transaction(), if_free(first, lock, of="a chat") as held:
            assert held
            wait_for(first, lock)
            with if_free(second, lock) as free, if_free(second, lock, of="a chat") as free_of:
                assert not free
                assert not free_of
            with if_free(second, lock, of="another chat") as free_of:
                assert free_of
            with pytest.raises(psycopg.errors.LockNotAvailable):
                wait_for(second, lock)
            for other in set(Lock) - {lock}:
                wait_for(second, other)
        with if_free(second, lock) as free:
            assert free


def test_a_connection_that_breaks_while_it_holds_a_lock_hides_no_error(database_url: str) -> None:
    def broken() -> None:
        with connect(database_url) as connection, if_free(connection, Lock.RECOVERY):
            connection.close()
            raise ValueError("what went wrong")

    with pytest.raises(ValueError, match="what went wrong"):
        broken()
