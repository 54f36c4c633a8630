"""Databases of the one server that a test session has."""

from itertools import count
from urllib.parse import urlsplit, urlunsplit

import psycopg

_numbers = count(1)


def database_named(server_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def database_name(database_url: str) -> str:
    """The name of the database of a URL."""
    return urlsplit(database_url).path[1:]


def copied_database(server_url: str, template: str) -> str:
    """The URL of a fresh copy of a database of the server."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        # A template must have no other users, and libraries keep pools of connections.
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [template])
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return database_named(server_url, name)
