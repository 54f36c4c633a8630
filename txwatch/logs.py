"""Logs of every process: a line of JSON with its context, and without secrets.

A line has `timestamp`, `level`, `logger`, `event`, and what is bound by structlog's contextvars where it is written:
`txid`, `window`, `run_id`, `model_version`, `request_id`.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from txwatch.settings import Settings

REDACTED = "[redacted]"
MAX_CHARACTERS = 20_000
"""Characters of one value in a line. A longer one is cut: a client of the API decides how long a path is."""
_SECRET_NAME = re.compile(
    r"token|password|passwd|secret|api_?key|access_?key|authorization|cookie|database_url|redis_url|broker_url|rpc_url|tracking_uri|dsn",
    re.IGNORECASE,
)
_SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
"""Secrets that libraries read from the environment, so that no setting holds them."""
# Each looks at a character a bounded number of times: repetition is possessive, or ends where the next match may begin.
# A pattern that backtracks from every character would let a stranger hold up a process.
_PATTERNS = (
    # A password in a URL, also with a slash: postgresql://user:password@host. What begins as :5432/ is a port.
    (re.compile(r"""(://[^\s/"'<>:@[]*+):(?!\d{1,5}/)(?:(?!://)[^\s"'<>])*@"""), rf"\1:{REDACTED}@"),
    # A Telegram bot's token, in the path of every request: /bot123:secret/getMe
    (re.compile(r"(/bot)\d++(?::|%3A)[^\s/?#\"']++", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"(?<!\d)\d{6,12}(?::|%3A)[A-Za-z0-9_-]{30,}+", re.IGNORECASE), REDACTED),
    # The id of an AWS key.
    (re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])"), REDACTED),
    (re.compile(r"(\b(?:Bearer|Basic)\s++)[A-Za-z0-9._~+/=-]++", re.IGNORECASE), rf"\1{REDACTED}"),
    # A value with a secret's name: password=x, {'password': 'x'}, {\"token\": \"x\"}, (b'cookie', b'x'), X-Api-Key: x.
    # But "the token: expired" is a sentence.
    (
        re.compile(
            r"""
            (
                (?:password|passwd|passphrase|secret|(?:api|access|private)[_-]?key(?:[_-]id)?|authorization|cookie|token)
                (?: \\{0,7}+ ["'] [ \t]*+ [:=,] | [ \t]*+ = | (?<![ ]token) [ \t]*+ : )
                [ \t]*+ (?: (?:Bearer|Basic) [ \t]++ )?+ (?: b(?=["']) )?+
                (?: (\\{0,7}+) (["']) )?
            )
            (?(3) (?: (?!\2\3) (?: \\. | [^\\] ) )*+ | [^\s&]++ )
            """,
            re.IGNORECASE | re.VERBOSE | re.DOTALL,
        ),
        rf"\1{REDACTED}",
    ),
)


class Redaction:
    """A structlog processor that removes secrets from an event by their name, their form and their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may be part of another.
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG002
        """Redact an event."""
        return {
            name: REDACTED if _SECRET_NAME.search(name) and value is not None else self._clean(value)
            for name, value in event.items()
        }

    def text(self, text: str) -> str:
        """A text without secrets, of bounded length."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        cut = len(text) - MAX_CHARACTERS
        return text if cut <= 0 else f"{text[:MAX_CHARACTERS]}… and {cut:,} characters more"

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.text(value.decode(errors="replace"))
            case dict():
                return dict(self(None, "", {str(name): inner for name, inner in value.items()}))
            case list() | tuple() | set() | frozenset():
                return [self._clean(inner) for inner in value]
            case None | bool() | int() | float():
                return value
        return self.text(str(value))


def secrets_of(settings: Settings) -> list[str]:
    """The values that must never be logged, and the passwords within URLs, as written and decoded."""
    values = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    values += [value for name in _SECRET_VARIABLES if (value := os.environ.get(name))]
    # A setting may hold several URLs.
    urls = [url for value in (*values, settings.mlflow_tracking_uri or "") for url in (value, *value.split(","))]
    passwords = [password for url in urls for password in _passwords(url)]
    return [*values, *passwords]


def _passwords(url: str) -> list[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return []
    return [password, unquote(password)]


def configure_logging(
    settings: Settings, *, process: str, under: str | None = None, stream: TextIO | None = None
) -> None:
    """Make structlog and the standard library's logging write JSON lines to `stream`, by default standard error.

    Safe to repeat. `process` names the program in each line: worker, api, dagster. With `under`, only the loggers below
    that name are changed, where a framework has its own.
    """
    redaction = Redaction(secrets_of(settings))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda logger, method, event: {**event, "process": process},  # noqa: ARG005
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            # Here too: handlers that others attach, such as Dagster's, get the event before our formatter.
            redaction,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name("txwatch")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Tracebacks become text first, so that they are redacted too.
                structlog.processors.format_exc_info,
                redaction,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    logger = logging.getLogger(under)
    logger.handlers = [kept for kept in logger.handlers if kept.get_name() != "txwatch"] + [handler]
    logger.setLevel(logging.INFO)
    # These log every request at INFO, with its address and the token in it.
    for noisy in ("httpx", "httpcore", "telegram"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
