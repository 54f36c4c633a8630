"""The pages find what only the archive has, say so, and name a day that cannot be read."""

import importlib.util
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.archive.filled import drop_all
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.archive.traffic import DAY, archive_all, land
from tests.dashboard.test_pages import run
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.archive.manifest import Archive
from txwatch.dashboard import look
from txwatch.store.database import connect

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed"),
    pytest.mark.filterwarnings("ignore"),  # Streamlit's own code warns under test
]


@pytest.fixture
def archive(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """Of the environment of the pages."""
    import streamlit as st

    archive = Archive(tmp_path / "archive", tmp_path / "home" / "archive-files")
    for name, value in {
        "DATABASE_URL": database_url,
        "TXWATCH_HOME": str(tmp_path / "home"),
        "TXWATCH_ARCHIVE": str(archive.place),
        "TXWATCH_API_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    st.cache_resource.clear()
    yield archive
    st.cache_resource.clear()


@pytest.fixture
def one(database_url: str, archive: Archive) -> tuple[str, int, str]:
    """Txid, value and an address of a transaction that only the archive has."""
    with connect(database_url) as connection:
        drop_all(connection)
        land(connection, timedelta(0), timedelta(minutes=5))
        [(txid, value, address)] = connection.execute(
            "SELECT txid, value_sat, jsonb_path_query_first(outputs, '$[*].addr ? (@ != null)') #>> '{}'"
            " FROM transactions WHERE value_sat > 1000000 ORDER BY seen_at DESC LIMIT 1"
        ).fetchall()
        archive_all(connection, archive, DAY)
        give_up(connection, DAY)
    return txid, value, address


def shown(view: str, **query: str) -> str:
    app: Any = run(view, **query)
    assert not app.exception
    parts = [*app.main]
    return " ".join(str(getattr(part, "value", "")) or str(getattr(part, "proto", "")) for part in parts)


def test_a_transaction_is_shown_with_its_day(one: tuple[str, int, str]) -> None:
    told = shown("transaction", txid=one[0])
    assert "From the archive of 2024-03-14" in told
    assert "No transaction with this id" in shown("transaction", txid="ab" * 32)


def test_an_address_and_a_range_of_amounts_are_found(one: tuple[str, int, str]) -> None:
    txid, value, address = one
    for text in (address, f"{value / 1e8:.8f} - {value / 1e8:.8f} BTC"):
        told = shown("search", q=text)
        assert "In the archive" in told, text
        assert txid in told, text


def test_a_day_that_cannot_be_read_is_named(one: tuple[str, int, str], archive: Archive) -> None:
    txid, _, address = one
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, TRANSACTIONS))))
    for told in (shown("search", q=address), shown("transaction", txid=txid)):
        note = look.as_written("transactions of 2024-03-14: its file is damaged")
        assert f"Not all of the archive was read: {note}." in told
