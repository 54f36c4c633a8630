"""The options of the commands, and captures as the commands read them."""

import gzip
import json
from pathlib import Path

import pytest

from tests.builders import labelled, numbered_utx
from txwatch.errors import UserError
from txwatch.evaluation.commands import evaluate, repeat_options
from txwatch.evaluation.labelled import read_labelled


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
        evaluate(train=[tmp_path / "a.jsonl"])
    with pytest.raises(UserError, match="There is no capture at"):
        evaluate(train=[tmp_path / "a"], background=[tmp_path / "b"], positives=[tmp_path / "c"])


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
    assert len(read.only(None)) == 1
