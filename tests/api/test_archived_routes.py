"""What the database has given up is found over the API, from the archive and with a word of that."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.archive.filled import drop_all
from tests.archive.test_query import give_up
from tests.archive.test_writing import flip_a_bit
from tests.archive.traffic import DAY, archive_all, land
from tests.serving import serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.archive.datasets import TRANSACTIONS
from txwatch.archive.manifest import Archive
from txwatch.queries.history import History
from txwatch.store.database import connect

DAMAGED = "transactions of 2024-03-14: its file is damaged"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive", tmp_path / "home" / "archive-files")


@pytest.fixture
def known(database_url: str, archive: Archive) -> list[str]:
    """The txids of a day that only the archive has, the newest first."""
    with connect(database_url) as connection:
        drop_all(connection)
        land(connection, timedelta(0), timedelta(minutes=5))
        rows = connection.execute("SELECT txid FROM transactions ORDER BY seen_at DESC, txid DESC").fetchall()
        archive_all(connection, archive, DAY)
        give_up(connection, DAY)
    return [txid for (txid,) in rows]


@pytest.fixture
def client(database_url: str, archive: Archive, tmp_path: Path) -> Iterator[httpx.Client]:
    settings = settings_of(database_url, tmp_path / "home", TXWATCH_ARCHIVE=str(archive.place))
    with serving(settings) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        yield client


def test_one_transaction_says_of_which_day_of_the_archive_it_is(client: httpx.Client, known: list[str]) -> None:
    told = client.get(f"/v1/transactions/{known[7]}").raise_for_status().json()
    assert (told["txid"], told["archived"]) == (known[7], "2024-03-14")
    assert told["inputs"]
    assert told["features"]
    missing = client.get(f"/v1/transactions/{'ab' * 32}")
    assert (missing.status_code, missing.json()["detail"]) == (404, "no transaction with this txid was landed")


def test_pages_of_the_archive_by_amount_address_and_time(client: httpx.Client, known: list[str]) -> None:
    def page(**parameters: object) -> dict[str, object]:
        answer: dict[str, object] = client.get("/v1/transactions/archived", params=parameters).raise_for_status().json()  # type: ignore[arg-type]
        assert answer["missing"] == []
        return answer

    first = page(limit=5)
    assert [one["txid"] for one in first["items"]] == known[:5]  # type: ignore[attr-defined, index]
    second = page(limit=5, cursor=first["next"])
    assert [one["txid"] for one in second["items"]] == known[5:10]  # type: ignore[attr-defined, index]
    assert client.get("/v1/transactions").json()["items"] == [], "the database has none of them"
    one = client.get(f"/v1/transactions/{known[3]}").json()
    value, address = one["value_sat"], next(coin["addr"] for coin in one["outputs"] if coin["addr"])
    for asked in (
        {"min_value_sat": value, "max_value_sat": value},
        {"address": address},
        {"since": one["seen_at"], "until": "2024-03-14T01:00:00Z"},
    ):
        assert known[3] in [found["txid"] for found in page(limit=500, **asked)["items"]]  # type: ignore[attr-defined, index]
    assert page(since="2024-03-15T00:00:00Z")["items"] == []


def test_a_damaged_day_is_named(client: httpx.Client, archive: Archive, known: list[str]) -> None:
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    flip_a_bit(Path(str(archive.file(manifest, TRANSACTIONS))))
    told = client.get(f"/v1/transactions/{known[7]}")
    assert (told.status_code, told.json()["detail"]) == (404, f"no transaction with this txid was landed; {DAMAGED}")
    assert client.get("/v1/transactions/archived").json()["missing"] == [DAMAGED]


def test_as_many_questions_as_may_be_asked_at_once_refuse_the_next(
    database_url: str, archive: Archive, known: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.api.app.History", lambda archive: History(archive, at_once=0))
    settings = settings_of(database_url, tmp_path / "home", TXWATCH_ARCHIVE=str(archive.place))
    with serving(settings) as url, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        for path in ("/v1/transactions/archived", f"/v1/transactions/{known[0]}"):
            refused = client.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["detail"] == "the archive answers as many questions as it may at once"
