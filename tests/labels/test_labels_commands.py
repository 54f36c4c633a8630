"""`txwatch labels` as its users run it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.databases import empty_tables
from txwatch.cli import app
from txwatch.errors import UserError
from txwatch.labels.store import read_known, read_watch_list
from txwatch.store.database import connect

ONE, OTHER = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"


@pytest.fixture(autouse=True)
def _database(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    with connect(database_url) as connection:
        empty_tables(connection, "labels, label_changes, watch_list")


def labels(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["labels", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_files_are_imported_together_and_again(tmp_path: Path, database_url: str) -> None:
    csv, pack = tmp_path / "exchange-a.csv", tmp_path / "b.yaml"
    csv.write_text(f"address,entity,source\n{ONE},Acme,book\nnonsense,Acme,book\n")
    pack.write_text(f"source: s\nlabel: Mixer\ntags:\n- address: {OTHER}\n- {{address: '0x', currency: ETH}}\n")
    said = labels("import", str(csv), str(pack), "--watch")
    assert f"left out: {csv}, line 3: 'nonsense' is no Bitcoin address" in said
    assert "exchange-a.csv: 1 new, 0 changed, 0 unchanged\n" in said
    assert "b.yaml: 1 new, 0 changed, 0 unchanged, 1 of other currencies left out" in said
    assert "2 more addresses are watched." in said
    assert "exchange-a.csv: 0 new, 0 changed, 1 unchanged" in labels("import", str(csv))
    assert "Acme" in labels("show", ONE)
    with connect(database_url) as connection:
        assert read_known(connection, [ONE])[ONE].is_exchange
        assert read_watch_list(connection) == {ONE: "Acme", OTHER: "Mixer"}


def test_one_file_that_cannot_be_read_stops_all(tmp_path: Path, database_url: str) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(f"address,entity,source\n{ONE},Acme,book\n")
    bad.write_text("address,entity,source\n\na,b\n")
    with pytest.raises(UserError, match=r"bad\.csv, line 3: 2 cells"):
        labels("import", str(good), str(bad))
    with connect(database_url) as connection:
        assert read_known(connection, [ONE]) == {}


def test_an_address_is_watched_and_no_longer() -> None:
    assert labels("watch", OTHER.upper(), "--note", "taken in 2016") == f"{OTHER} is watched.\n"
    assert labels("watched") == f"{OTHER}  taken in 2016\n"
    assert labels("show", OTHER) == labels("show", OTHER.upper()) == "Watched: taken in 2016\nNo label.\n"
    labels("unwatch", OTHER.upper())
    assert labels("watched") == ""
    with pytest.raises(UserError, match="is not watched"):
        labels("unwatch", OTHER)
    with pytest.raises(UserError, match="no Bitcoin address"):
        labels("watch", "0x1")
    with pytest.raises(UserError, match="its checksum is wrong"):
        labels("watch", OTHER[:-1] + "p")


def test_what_a_label_says_is_shown_as_it_is(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text(f"address,entity,source\n{ONE},[/b]Acme,[red]book\n")
    labels("import", str(csv))
    said = labels("show", ONE)
    assert "[/b]Acme" in said
    assert "[red]book" in said


def test_a_label_cannot_steer_the_terminal(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text(f"address,entity,source\n{OTHER},Ac\x1b[2Jme \u202ekoob,book\n")
    labels("import", str(csv))
    assert "Ac [2Jme koob" in labels("show", OTHER)
