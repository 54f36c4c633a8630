"""One format of logs: JSON lines that say what they are about, without secrets."""

import io
import itertools
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars

from tests.serving import KEY, TOKEN, settings_of
from txwatch.logs import _PATTERNS, MAX_CHARACTERS, REDACTED, Redaction, configure_logging

PASSWORD = "opensesame"
URL = f"postgresql://watcher:{PASSWORD}@db.example/txwatch"
AWS_ID, AWS_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REDIS_PASSWORD, MLFLOW_PASSWORD = "redis/secret", "tracked-secret"
NODE_PASSWORDS = ("nodes-own", "second/one")
ELSEWHERE = {
    "REDIS_URL": "redis://:redis%2Fsecret@cache:6379/0",
    "BITCOIN_RPC_URL": f"http://watch:{NODE_PASSWORDS[0]}@one:8332,http://watch:second%2Fone@two:8332",
    "MLFLOW_TRACKING_URI": f"https://ml:{MLFLOW_PASSWORD}@mlflow.example",
}


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", AWS_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_KEY)
    stream = io.StringIO()
    configure_logging(settings_of(URL, tmp_path, **ELSEWHERE), process="worker", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().handlers = [h for h in logging.getLogger().handlers if h.get_name() != "txwatch"]
    structlog.reset_defaults()


def test_a_line_says_what_it_is_about(lines: Any) -> None:
    with bound_contextvars(txid="ab" * 32, window="2024-03-14-12:00", run_id="r1", model_version="3"):
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
        {"event": f"online store {ELSEWHERE['REDIS_URL']} is away"},
        {"event": f"cache:6379,password={REDIS_PASSWORD}", "redis": REDIS_PASSWORD},
        {"event": f"nodes {ELSEWHERE['BITCOIN_RPC_URL']}", "words": f"not {' nor '.join(NODE_PASSWORDS)}"},
        {"event": f"MLflow at {ELSEWHERE['MLFLOW_TRACKING_URI']} is away", "words": f"not {MLFLOW_PASSWORD}"},
        {"event": f"signed by {AWS_ID} with {AWS_KEY}"},
    ],
)
def test_no_secret_is_written(lines: Any, said: dict[str, Any]) -> None:
    structlog.get_logger("txwatch.x").info(**said)
    text = json.dumps(lines())
    for secret in (PASSWORD, TOKEN, KEY, REDIS_PASSWORD, MLFLOW_PASSWORD, *NODE_PASSWORDS, AWS_ID, AWS_KEY):
        assert secret not in text
    assert REDACTED in text


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        (f"POST https://api.telegram.org/bot{TOKEN}/getMe", TOKEN[11:]),
        ("POST https://api.telegram.org/bot123:short/getMe", "short"),
        (f"GET /bot{TOKEN.replace(':', '%3A')}/getMe?x=1", TOKEN[11:]),
        (f"token{TOKEN}, and more", TOKEN[11:]),
        ("redis://:a@b:c@cache:6379", "b:c"),
        ("http://user:with@sign@host/x", "sign"),
        ("ASIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
        (f"aws_secret_access_key={AWS_KEY}", AWS_KEY[4:]),
        ("PGPASSWORD=opensesame psql", "opensesame"),
        ("basic  b3BlbnNlc2FtZQ==", "b3Blbn"),
        ("redis://:p/ss@cache:1/0", "p/ss"),
        ("postgresql://watcher:p/q@r@db/txwatch", "p/q@r"),
        ("{'password': 'hun ter2'}", "ter2"),
        ("{'password': \"hun'ter2\"}", "ter2"),
        ("{'password': 'hun\\'ter 2'}", "ter 2"),
        ('{"token": "abcd efgh"}', "efgh"),
        ('{"token":"abcdefgh"}', "abcdefgh"),
        ('"{\\"token\\": \\"it\'s abcd\\"}"', "s abcd"),
        ("{b'secret': b'ab cd'}", "cd"),
        ("[(b'x-api-key', b'ab cd')]", "cd"),
        ("[('authorization', 'Digest ab cd')]", "cd"),
        ("token=abcdefgh1234", "abcdefgh"),
        ("GET /x?a=1&access_token=abcd&b=2", "abcd"),
        ("token = abcd", "abcd"),
        ("X-Api-Key: abcd", "abcd"),
        ("X-Auth-Token: abcd", "abcd"),
        ("x_api_key:abcd", "abcd"),
        ("Authorization: abcd", "abcd"),
        ("aws_secret_access_key = abcd", "abcd"),
        ("password='never ended", "ended"),
    ],
)
def test_a_secret_that_no_setting_holds_is_known_by_its_form(said: str, secret: str) -> None:
    assert secret in said
    assert secret not in Redaction().text(said)


@pytest.mark.parametrize(
    "harmless",
    [
        "http://127.0.0.1:5000/x",
        "http://127.0.0.1:5000/of/a@b.example",
        "http://[::1]:5000/of/a@b.example",
        "at 12:30:15 @ block 840000:1",
        "mailto:a@b.example",
        "Telegram refused the token: Unauthorized",
        "token_count=5, tokens: 5, secret_name=x, a password is wanted",
    ],
)
def test_what_is_no_secret_stays(harmless: str) -> None:
    assert Redaction().text(harmless) == harmless


def test_what_stands_around_a_secret_stays() -> None:
    said = "{'user': 'a', 'password': 'x y', 'n': 1} at http://u:p/q@host/path?token=abc&b=2"
    kept = f"{{'user': 'a', 'password': '{REDACTED}', 'n': 1}} at http://u:{REDACTED}@host/path?token={REDACTED}&b=2"
    assert Redaction().text(said) == kept


def test_no_text_of_strangers_takes_more_than_a_look_at_each_character() -> None:
    """Eight times the text may take eight times as long, and some; what grows with its square takes 64 times."""
    beginnings = ["", "://", "a://", "a://b:", "/bot", "/bot1:", "Bearer ", "password=", "AKIA", "123456:"]
    fillings = ["a", "a.", "a+", "a:", ":", "/", "://", "a://b:", "@", "1", "1:", "123456:a", "/bot", "/bot1", "A1"]
    fillings += [" ", "Bearer ", "Basic\t", "password=", "AKIA", "-", '"', "\u00e9"]
    beginnings += ["token", "token: '", 'token="', "x-api-key:", "://a:b/", 'token=\\\\\\"']
    fillings += [
        "\\",
        "\\'",
        "'",
        "token",
        "token='",
        'token=\\"',
        "'token', ",
        "api_key: ",
        "://a:b/@",
        "/@",
        "secret_",
    ]
    for (pattern, replacement), beginning, filling in itertools.product(_PATTERNS, beginnings, fillings):

        def taken(length: int, parts: tuple[Any, ...] = (pattern, replacement, beginning, filling)) -> float:
            expression, instead, start, more = parts
            text = start + (more * length)[:length]
            before = time.thread_time()
            expression.sub(instead, text)
            return time.thread_time() - before

        some = max(taken(4_000), 0.002)
        assert min(taken(32_000) for _ in range(2)) < 24 * some, f"{pattern.pattern} on {beginning}{filling * 3}..."


def test_a_long_value_is_cut_after_its_secrets_were_taken_out() -> None:
    written = Redaction([KEY]).text("x" * (MAX_CHARACTERS - 5) + KEY + "y" * 100_000)
    assert len(written) < MAX_CHARACTERS + 100
    assert KEY[:5] not in written
    assert written.endswith("characters more")


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
