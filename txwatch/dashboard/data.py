"""The dashboard's way to the database: a small pool for all its visitors, and answers shared for some seconds."""

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st
from psycopg import OperationalError
from psycopg_pool import ConnectionPool, PoolTimeout

from txwatch.settings import Settings
from txwatch.store.database import Connection
from txwatch.store.urls import libpq_url

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
