"""What is read of DATABASE_URL, and that nothing of one that cannot be read is shown."""

import pytest

from txwatch.store.database import DatabaseUrlError, url_parts


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
