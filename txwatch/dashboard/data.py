"""The dashboard's reads: a small pool of connections for all visitors, and pages of drift reports."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import streamlit as st
from psycopg import OperationalError
from psycopg_pool import ConnectionPool

from txwatch.archive.manifest import archive_of
from txwatch.clock import EPOCH
from txwatch.detection.drift_reports import DriftPages
from txwatch.queries.history import History
from txwatch.settings import Settings
from txwatch.store.database import Connection, connection_pool

T = TypeVar("T")


@st.cache_resource
def settings() -> Settings:
    """The settings of this process."""
    return Settings()


@st.cache_resource
def _pool() -> ConnectionPool[Connection]:
    pool = connection_pool(
        settings().require_database_url(),
        application="txwatch dashboard",
        min_size=1,
        max_size=3,
        wait_seconds=5,
        options="-c statement_timeout=20s -c default_transaction_read_only=on",
    )
    pool.open()
    return pool


@st.cache_resource
def history() -> History:
    """What asks the archive, for all visitors together: a few questions at once."""
    return History(archive_of(settings()))


def ask(question: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """What a function that takes a connection answers. Without a database the page says so and ends."""
    try:
        with _pool().connection() as connection:
            return question(connection, *arguments, **named)
    except OperationalError:
        st.error("The database cannot be reached just now. This page tries again by itself.")
        st.stop()


def ask_rarely(question: Callable[..., T], start: datetime, end: datetime, *more: Any, ttl: timedelta | None) -> T:
    """The same about a span of time, once in `ttl` for all visitors: what a long span holds takes seconds to count.

    Without a `ttl` the span is past, and asked about once in a minute.
    """
    turn = (end - EPOCH) // (ttl or timedelta(minutes=1))
    return _remembered(question.__qualname__, turn, end - start, more, lambda: ask(question, start, end, *more))


@st.cache_data(max_entries=32, ttl=600, show_spinner=False)
def _remembered(name: str, turn: int, length: timedelta, more: tuple[Any, ...], _answer: Callable[[], T]) -> T:
    del name, turn, length, more  # what is asked, and when; the span itself moves with the clock
    return _answer()


@st.cache_data(max_entries=4, ttl=600, show_spinner=False)
def drift_page(at: datetime) -> str | None:
    """The page of the drift report of this moment, if it is kept outside of the database. Raises ObjectStoreError."""
    return DriftPages(settings().report_place).read(at)
