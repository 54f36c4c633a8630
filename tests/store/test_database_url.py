"""What is read of DATABASE_URL, and that nothing of one that cannot be read is shown."""

import pytest

from txwatch.store.database import DatabaseUrlError, connect, connection_pool, url_parts

VANISHED = [
    ("tcp_keepalives_count", "4"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_user_timeout", "30000"),
]


@pytest.mark.parametrize(
    ("url", "host", "password"),
    [
        ("postgresql://u:a%40b@db.example:5432/x", "db.example", "a@b"),
        ("postgres://u@db/x", "db", None),
        ("postgresql+psycopg://postgres:@/x?host=%2Fhome%2Fme%40work%2Fpostgres", "/home/me@work/postgres", None),
        ("postgresql://u@/x?host=%40abstract", "@abstract", None),
    ],
)
def test_the_parts_of_a_url(url: str, host: str, password: str | None) -> None:
    parts = url_parts(url)
    assert (parts["host"], parts.get("password") or None) == (host, password)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:very%zzsecret@db/x",
        "postgresql://u:not@very@secret@db/x",
        "postgresql://u:x@db/x?secret=1",
        "mysql://u:secret@db/x",
    ],
)
def test_of_a_url_that_cannot_be_read_nothing_is_shown(url: str) -> None:
    with pytest.raises(DatabaseUrlError) as error:
        url_parts(url)
    assert "secret" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_server_notices_within_half_a_minute_that_a_machine_vanished(database_url: str) -> None:
    """The server would keep the locks of who is gone. By a socket of the same machine it only notes what was asked."""
    noted = "SELECT name, reset_val FROM pg_settings WHERE name LIKE 'tcp_%' ORDER BY name"
    with connect(database_url) as connection:
        assert connection.execute(noted).fetchall() == VANISHED
        told = connection.info.get_parameters()
        assert {key: told[key] for key in ("keepalives_idle", "keepalives_count", "tcp_user_timeout")} == {
            "keepalives_idle": "10",
            "keepalives_count": "4",
            "tcp_user_timeout": "30000",
        }
    with connection_pool(database_url, application="x", max_size=1) as pool:
        with pool.connection() as connection:
            connection.execute("SET tcp_user_timeout = 0")
        with pool.connection() as connection:
            assert connection.execute(noted).fetchall() == VANISHED
