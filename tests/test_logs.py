"""One format of logs: JSON lines that say what they are about, without secrets."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.serving import KEY, TOKEN, settings_of
from txwatch.logs import REDACTED, about, configure_logging

PASSWORD = "opensesame"
URL = f"postgresql://watcher:{PASSWORD}@db.example/txwatch"


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Any]:
    stream = io.StringIO()
    configure_logging(settings_of(URL, tmp_path), process="worker", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().handlers = [h for h in logging.getLogger().handlers if h.get_name() != "txwatch"]
    structlog.reset_defaults()


def test_a_line_says_what_it_is_about(lines: Any) -> None:
    with about(txid="ab" * 32, window="2024-03-14-12:00", run_id="r1", model_version="3"):
        structlog.get_logger("txwatch.x").info("scored", count=5)
    structlog.get_logger("txwatch.x").warning("done")
    first, second = lines()
    assert first["txid"] == "ab" * 32
    assert {k: first[k] for k in ("window", "run_id", "model_version", "count")} == {
        "window": "2024-03-14-12:00",
        "run_id": "r1",
        "model_version": "3",
        "count": 5,
    }
    for line in (first, second):
        assert {"timestamp", "level", "logger", "event", "process"} <= line.keys()
    assert "txid" not in second


def test_libraries_write_the_same_format(lines: Any) -> None:
    logging.getLogger("some.library").warning("took %d s", 3, extra={"run_id": "r2"})
    (line,) = lines()
    assert line["event"] == "took 3 s"
    assert line["logger"] == "some.library"
    assert line["run_id"] == "r2"


@pytest.mark.parametrize(
    "said",
    [
        {"event": f"connecting to {URL}"},
        {"event": f"POST https://api.telegram.org/bot{TOKEN}/sendMessage"},
        {"event": "x", "headers": {"Authorization": f"Bearer {KEY}"}},
        {"event": "x", "headers": [("authorization", f"Bearer {KEY}")]},
        {"event": "x", "api_key": KEY, "nested": [{"password": PASSWORD}]},
        {"event": f"a key alone: {KEY}", "body": KEY.encode()},
        {"event": "x", "connection": f"host=db password={PASSWORD} user=watcher"},
        {"event": f"the password alone: {PASSWORD}"},
        {"event": "x", "error": ValueError(f"no route to {URL}")},
    ],
)
def test_no_secret_is_written(lines: Any, said: dict[str, Any]) -> None:
    structlog.get_logger("txwatch.x").info(**said)
    text = json.dumps(lines())
    for secret in (PASSWORD, TOKEN, KEY):
        assert secret not in text
    assert REDACTED in text


def test_no_secret_is_written_with_a_traceback(lines: Any) -> None:
    log = structlog.get_logger("txwatch.x")
    try:
        raise ConnectionError(f"cannot reach {URL}")
    except ConnectionError:
        log.exception("failed", url=URL)
        logging.getLogger("library").exception("failed as well: %s", URL)
    for line in lines():
        assert "ConnectionError" in line["exception"]
        assert PASSWORD not in json.dumps(line)


def test_other_values_are_kept_as_they_are(lines: Any) -> None:
    structlog.get_logger("txwatch.x").info("x", n=1, share=0.5, flag=True, nothing=None, address="bc1qspent")
    (line,) = lines()
    assert (line["n"], line["share"], line["flag"], line["nothing"]) == (1, 0.5, True, None)
    assert line["address"] == "bc1qspent"
