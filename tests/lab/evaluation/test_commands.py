"""The commands as their users run them, their options, and captures as they read them."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.builders import labelled, numbered_utx
from tests.populated import Populated
from txwatch.cli import app
from txwatch.errors import UserError
from txwatch.lab.evaluation.commands import evaluate, repeat_options
from txwatch.lab.evaluation.replay import read_labelled
from txwatch.lab.simulator.traffic import Simulator

START = datetime(2024, 3, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--train", "a", "b", "--json"], ["--train", "a", "--train", "b", "--json"]),
        (
            ["--train", "a", "--background", "b", "c", "d"],
            ["--train", "a", "--background", "b", "--background", "c", "--background", "d"],
        ),
        (["--train=a", "b"], ["--train=a", "--train", "b"]),
        (["--regime", "2024-10", "--json"], ["--regime", "2024-10", "--json"]),
    ],
)
def test_several_files_may_follow_one_option(given: list[str], meant: list[str]) -> None:
    assert repeat_options(given) == meant


def test_one_set_of_captures_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="go together"):
        evaluate(train=[f"{tmp_path}/a.jsonl"])
    with pytest.raises(UserError, match="There is no capture at"):
        evaluate(train=[f"{tmp_path}/a"], background=[f"{tmp_path}/b"], positives=[f"{tmp_path}/c"])


def test_a_transaction_counts_once_with_its_first_label(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl.gz"
    lines = [
        labelled(numbered_utx(1), "coinjoin:one", "later"),
        numbered_utx(2),
        labelled(numbered_utx(1), "again"),
        json.dumps({"op": "status", "msg": "hello"}).encode(),
        numbered_utx(3, size=10),
    ]
    capture.write_bytes(gzip.compress(b"\n".join(lines)))
    read = read_labelled([capture, capture])
    assert read.labels == ["coinjoin:one", None]
    assert read.malformed == 2
    assert len(read.rows(None)) == 1


def simulated(path: Path, seed: int) -> Path:
    """A capture of simulated traffic, each planted anomaly with its label."""
    traffic = Simulator("2024-03", seed=seed, start=START).until(START + timedelta(minutes=20))
    lines = [labelled(tx.message, *tx.labels) if tx.labels else tx.message for tx in traffic]
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))
    return path


def invoke(*arguments: str, **environment: str) -> str:
    """What a command prints to standard output."""
    result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_captures_are_evaluated_in_tables_and_the_rest_is_json(tmp_path: Path) -> None:
    train, background, positives = (str(simulated(tmp_path / f"{n}.jsonl.gz", seed=n)) for n in (1, 2, 3))
    said = invoke("evaluate", "--train", train, "--background", background, "--positives", positives, COLUMNS="200")
    rows = {line.split()[1]: line for line in said.splitlines() if "│ plant:" in line}
    assert {"plant:coinjoin", "plant:fee_accident", "plant:whale"} <= set(rows)
    for row in rows.values():
        assert len(re.findall(r"[01]\.\d{3} \([01]\.\d{3}\)", row)) == 5, "each figure beside that of the baseline"
    explained = next(line for line in said.splitlines() if line.startswith("│ coinjoin "))
    assert re.findall(r"[01]\.\d{3}", explained)[:2] == ["1.000", "1.000"], "its cause is reason 1, and in the first 3"
    assert "No precision from people's answers" in said
    rest = json.loads(said[said.index("\n{") :])
    assert set(rest["known_cases"]["incidents_found"].values()) == {True}


def test_a_backtest_prints_what_only_one_version_would_have_said(populated: Populated, tmp_path: Path) -> None:
    capture = str(simulated(tmp_path / "capture.jsonl.gz", seed=4))
    where = {"DATABASE_URL": populated.database_url, "TXWATCH_HOME": str(populated.home), "COLUMNS": "200"}
    versions = f"{populated.champion},challenger"
    result = json.loads(invoke("backtest", "--capture", capture, "--models", versions, "--json", **where))
    assert set(result["models"]) == {populated.champion, populated.challenger}
    said = invoke("backtest", "--capture", capture, "--models", versions, **where)
    for version, figures in result["models"].items():
        assert f"Version {version}: {figures['alerts']} alerts" in said
        assert all(f"only here: {score['txid'][:16]}" in said for score in figures["only"])


def test_a_simulated_day_is_printed_with_and_without_plants() -> None:
    said = invoke("evaluate-day", "--hours=0.25", "--train-hours=1", "--warm-hours=0.25", "--rate=2", COLUMNS="200")
    assert "0.25 hours with plants:" in said
    assert "0.25 hours without plants:" in said
    assert said.count("0 planted fee accidents and whales did not arrive") == 2
