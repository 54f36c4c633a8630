"""`txwatch query` and `txwatch archive`, as they are typed."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.archive.filled import DAY, fill_day
from tests.archive.test_query import give_up
from tests.archive.test_writing import NOW, flip_a_bit
from tests.databases import empty_tables
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch.archive.bounded import QueryError, bounded_memory
from txwatch.archive.datasets import ARCHIVED, TRANSACTIONS
from txwatch.archive.manifest import Archive
from txwatch.archive.writing import archive_day
from txwatch.cli import app
from txwatch.errors import UserError
from txwatch.store.database import Connection


@pytest.fixture(autouse=True)
def environment(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TXWATCH_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def given_up(connection: Connection, archive: Archive) -> Path:
    """A day that only the archive has; the file of its transactions."""
    fill_day(connection)
    for dataset in ARCHIVED.values():
        archive_day(connection, archive, dataset, DAY, NOW)
    give_up(connection, DAY)
    manifest = archive.manifest(TRANSACTIONS, DAY)
    assert manifest is not None
    return Path(str(archive.file(manifest, TRANSACTIONS)))


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.usefixtures("given_up")
def test_an_answer_comes_as_a_table_as_csv_or_as_parquet() -> None:
    counted = typed("query", "SELECT count(*) AS n, max(value_sat) AS most FROM transactions")
    assert counted.exit_code == 0, counted.output
    assert "2099999997690000" in counted.stdout
    coins = typed("query", "SELECT txid, fee_sat, outputs FROM transactions ORDER BY seen_at", "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(coins.stdout)))
    assert len(lines) == 40
    assert lines[0]["fee_sat"] == ""
    assert json.loads(lines[0]["outputs"]) == [
        {"addr": None, "value": 2_099_999_997_690_000, "type": "op_return", "n": 0}
    ]
    told = typed("query", "SELECT * FROM features", "--format", "parquet", "--output", "features.parquet")
    assert (told.exit_code, told.stdout) == (0, "")
    assert pq.read_table("features.parquet").num_rows == 40
    assert [path.name for path in Path().iterdir() if path.suffix == ".part"] == []


@pytest.mark.usefixtures("given_up")
def test_days_and_rows_can_be_bounded() -> None:
    of_another_day = typed("query", "SELECT txid FROM transactions", "--since", "2024-03-15", "--format", "csv")
    assert of_another_day.stdout.split() == ["txid"]
    few = typed("query", "SELECT txid FROM transactions", "--rows", "5", "--format", "csv")
    assert len(few.stdout.split()) == 6
    assert few.exit_code == 3
    assert "There are more rows than the 5 that are told" in few.stderr


def test_a_day_that_cannot_be_read_is_named_and_the_rest_is_told(given_up: Path) -> None:
    flip_a_bit(given_up)
    told = typed("query", "SELECT count(*) AS n FROM transactions", "--format", "csv")
    assert told.stdout.split() == ["n", "0"]
    assert told.stderr == "transactions of 2024-03-14: its file is damaged: its rows are missing.\n"
    assert told.exit_code == 3
    assert typed("query", "SELECT count(*) AS n FROM features", "--format", "csv").exit_code == 0


def test_what_an_answer_holds_does_not_steer_the_terminal() -> None:
    told = typed("query", "SELECT 'a' || chr(27) || '[2Jb' || chr(10) || 'c' AS x")
    assert "\x1b" not in told.stdout
    assert "a [2Jb c" in told.stdout


def test_an_answer_writes_over_no_file_beside_it(tmp_path: Path) -> None:
    victim = tmp_path / "somebody's"
    victim.write_text("kept")
    Path("answer.csv.part").symlink_to(victim)
    assert typed("query", "SELECT 1 AS n", "--format", "csv", "--output", "answer.csv").exit_code == 0
    assert (victim.read_text(), Path("answer.csv").read_text().split()) == ("kept", ["n", "1"])


def test_what_cannot_be_answered_is_said() -> None:
    Path("there.csv").touch()
    for arguments, said in [
        (("SELECT 1", "--format", "parquet"), "needs --output"),
        (("SELECT 1", "--format", "csv", "--output", "there.csv"), "does not write over"),
        (("DROP TABLE transactions",), "no query"),
    ]:
        error = typed("query", *arguments).exception
        assert isinstance(error, UserError)
        assert said in str(error)


@pytest.mark.parametrize(
    ("query", "seconds", "said"),
    [
        # What is the same in each row DuckDB computes before the query begins.
        ("SELECT list_sort(range(400_000_000))[1]", "60", "Out of Memory"),
        # It would compare for hours.
        ("SELECT levenshtein(repeat('a', 3_000_000), repeat('b', 3_000_000))", "0.2", "took longer than 0.2 s"),
        # The same, but while the answer is being written.
        (
            "SELECT levenshtein(repeat('a', n), repeat('b', n))"
            " FROM (SELECT if(n = 100_000, 3_000_000, 1) AS n FROM range(200_000) AS of_rows (n))",
            "3",
            "took longer than 3 s",
        ),
    ],
    ids=["memory", "time", "time of a row"],
)
def test_what_duckdb_does_not_bound_ends_too(query: str, seconds: str, said: str, tmp_path: Path) -> None:
    answer = str(tmp_path / "answer.parquet")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "txwatch",
            "query",
            query,
            "--seconds",
            seconds,
            "--format",
            "parquet",
            "--output",
            answer,
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert list(tmp_path.glob("*.part")) + list(tmp_path.glob("txwatch-query-*")) == []


def test_a_query_that_is_terminated_leaves_no_files(tmp_path: Path) -> None:
    slow = (
        "SELECT levenshtein(repeat('a', n), repeat('b', n))"
        " FROM (SELECT if(n = 100_000, 3_000_000, 1) AS n FROM range(200_000) AS of_rows (n))"
    )
    answer = str(tmp_path / "answer.parquet")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "txwatch",
            "query",
            slow,
            "--seconds",
            "86400",
            "--format",
            "parquet",
            "--output",
            answer,
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as query:
        try:
            wait_until(lambda: list(tmp_path.glob("*.part")) or query.poll() is not None, "the answer is being written")
            query.terminate()
            assert query.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        finally:
            query.kill()
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_is_said() -> None:
    with pytest.raises(QueryError, match="--memory-mb"), bounded_memory(64):
        bytearray(4 << 30)
    assert len(bytearray(4 << 20)) == 4 << 20


def test_the_archive_is_listed_checked_and_adopted(
    given_up: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = typed("archive", "days").stdout
    assert listed.count(str(date(2024, 3, 14))) == 3
    assert listed.count("archive only") == 3
    assert typed("archive", "check").stdout == "Every file is as it was written.\n"
    flip_a_bit(given_up)
    checked = typed("archive", "check")
    assert checked.exit_code == 1
    assert "transactions of 2024-03-14: its file is damaged" in checked.stdout
    empty_tables(connection, "archived_days")
    assert typed("archive", "adopt").stdout == "3 files of 1 days were not known here.\n"
    monkeypatch.delenv("TXWATCH_ARCHIVE")
    error = typed("archive", "check").exception
    assert "TXWATCH_ARCHIVE is not set" in str(error)
