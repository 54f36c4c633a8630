"""One format of logs for every process: a line of JSON, with what it was about, and without secrets.

A line has `timestamp`, `level`, `logger` and `event`, and whatever is bound where it is written: `txid`, `window`,
`run_id`, `model_version`, `request_id`. Bind for the extent of some work with `about`.
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from txwatch.settings import Settings

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(r"token|password|passwd|secret|api_?key|authorization|cookie|database_url|dsn", re.IGNORECASE)
_PATTERNS = (
    # A password in a URL: postgresql://user:password@host
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@", re.IGNORECASE), rf"\1:{REDACTED}@"),
    # A Telegram bot's token, which is part of every URL that its library logs.
    (re.compile(r"\b\d{6,12}:[A-Za-z0-9_-]{30,}"), REDACTED),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"(\bpassword=)[^\s&]+", re.IGNORECASE), rf"\1{REDACTED}"),
)


class Redaction:
    """A structlog processor that takes secrets out of an event: by their name, by their form, and by their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one secret may be part of another.
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG002
        """See structlog's processors."""
        return {
            name: REDACTED if _SECRET_NAME.search(name) and value is not None else self._clean(value)
            for name, value in event.items()
        }

    def text(self, text: str) -> str:
        """A text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

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
    """The values that must never be logged. Of the database's URL also the password alone."""
    fields = [settings.database_url, settings.telegram_bot_token, settings.api_key]
    values = [field.get_secret_value() for field in fields if field is not None]
    passwords = [match.group(1) for value in values if (match := re.search(r"://[^:/@\s]*:([^@/\s]+)@", value))]
    return [*values, *passwords]


def configure_logging(
    settings: Settings,
    *,
    process: str,
    under: str | None = None,
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> None:
    """Make structlog and the standard library's logging write JSON lines to `stream`, by default standard error.

    Safe to repeat. `process` names the program in each line: worker, api, dagster. `under` leaves alone the loggers
    that are not below it, where a framework has its own.
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
            # Here too: what others attach to a logger, as Dagster does, gets the event before our formatter does.
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
                # Tracebacks become text first, so that what they show is cleaned too.
                structlog.processors.format_exc_info,
                redaction,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    logger = logging.getLogger(under)
    logger.handlers = [kept for kept in logger.handlers if kept.get_name() != "txwatch"] + [handler]
    logger.setLevel(level)
    # These log every request at INFO, the address with its token among them.
    for noisy in ("httpx", "httpcore", "telegram"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def about(**what: object) -> Iterator[None]:
    """Bind what the lines within the block are about: `txid`, `window`, `run_id`, `model_version`."""
    with bound_contextvars(**{name: value for name, value in what.items() if value is not None}):
        yield


def from_now_on(**what: object) -> None:
    """Bind for all that follows in this context: the whole of a run, which is a process of its own."""
    bind_contextvars(**what)
