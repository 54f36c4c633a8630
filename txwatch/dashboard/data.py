"""The dashboard's way to the database: a small pool for all its visitors, and answers shared for some seconds."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import streamlit as st
from psycopg import OperationalError
from psycopg_pool import ConnectionPool, PoolTimeout

from txwatch.detection.drift_reports import DriftPages
from txwatch.places import ObjectStoreError
from txwatch.settings import Settings
from txwatch.store.database import Connection, libpq_url

T = TypeVar("T")


@st.cache_resource
def settings() -> Settings:
    """Of this process."""
    return Settings()


@st.cache_resource
def _pool() -> ConnectionPool[Connection]:
    return ConnectionPool(
        libpq_url(settings().require_database_url()),
        min_size=1,
        max_size=3,
        timeout=5,
        open=True,
        check=ConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "connect_timeout": 5,
            "application_name": "txwatch dashboard",
            "options": "-c timezone=UTC -c statement_timeout=20s -c default_transaction_read_only=on",
        },
    )


def ask(question: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """What a function of the query module answers. Without a database the page says so and ends."""
    try:
        with _pool().connection() as connection:
            return question(connection, *arguments, **named)
    except (OperationalError, PoolTimeout):
        st.error("The database cannot be reached just now. This page tries again by itself.")
        st.stop()


def drift_page(at: datetime) -> str | None:
    """The page of the drift report of this moment, if it is kept outside of the database. What is wrong is said."""
    try:
        return _drift_page(at)
    except ObjectStoreError as error:
        st.error(f"The page cannot be read just now. {error}")
        st.stop()


@st.cache_data(max_entries=4, ttl=600, show_spinner=False)
def _drift_page(at: datetime) -> str | None:
    return DriftPages(settings().report_place).read(at)
