"""What a channel is: a chat at Telegram, a signed webhook, or a service that apprise knows, and which alerts it gets.

A chat is named by its id at Telegram, and comes from TELEGRAM_CHAT_ID. Others have a name that somebody gave them.
Their URLs are secrets, for most hold a token: only `shown_as` may be seen.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from txwatch.channels.quiet_hours import QuietHours
from txwatch.detection.kinds import KINDS, RULE_PREFIX, Severity
from txwatch.errors import UserError

Kind = Literal["telegram", "webhook", "apprise"]
MOST_CHANNELS = 20
"""Besides chats: each has a connection of its own to the database."""
MAX_URL = 2048
LEAST_SECRET, MOST_SECRET = 32, 256
"""Characters of a secret that signs."""
DIGEST_SPAN = (timedelta(minutes=5), timedelta(days=1))
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_RULE = re.compile(r"rule:(\*|[A-Za-z0-9][\w.-]{0,79})")
_PUBLIC_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,19}")


class WrongChannelError(UserError):
    """A channel cannot be as somebody wants it. The message holds no secrets."""


@dataclass(frozen=True)
class Terms:
    """Which alerts a channel gets, and when. None and none at all stand for everything, at once."""

    min_severity: str | None = None
    kinds: tuple[str, ...] | None = None
    quiet_hours: str | None = None
    digest_every: timedelta | None = None
    """All but critical alerts go into digests so far apart."""


@dataclass(frozen=True)
class Channel:
    """One channel as it may be shown. Times UTC, None for never; the counts are of its deliveries."""

    channel: str
    kind: Kind
    shown_as: str | None
    min_severity: str | None
    kinds: list[str] | None
    quiet_hours: str | None
    digest_every: timedelta | None
    failures: int
    """In a row."""
    retry_at: datetime | None
    refused_since: datetime | None
    refusal: str | None
    disabled_at: datetime | None
    state: Literal["on", "refuses", "off"]
    sent: int
    waiting: int
    uncertain: int
    dead: int
    last_sent_at: datetime | None


@dataclass(frozen=True)
class Target:
    """Where requests to a channel go, and the secrets that sign them, the newest first."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


def is_chat(channel: str) -> bool:
    """Whether a channel is a chat, by its name: ids of chats are numbers, their names begin with an @."""
    return _NAME.fullmatch(channel) is None


def channel_name(name: str) -> str:
    """The name. Raises WrongChannelError for one that cannot be given."""
    if is_chat(name):
        raise WrongChannelError("a channel's name has up to 40 of a-z, 0-9, _ and -, and begins with a letter")
    return name


def terms(
    min_severity: str | None = None,
    kinds: Iterable[str] = (),
    rules: Iterable[str] = (),
    quiet_hours: str | None = None,
    digest_every: timedelta | None = None,
) -> Terms:
    """The terms that somebody asks for, each checked. Raises WrongChannelError."""
    severities = [severity.name for severity in Severity]
    if min_severity is not None and min_severity not in severities:
        raise WrongChannelError(f"no severity is named {min_severity!r}: say one of {', '.join(severities)}")
    chosen = (*kinds, *(f"{RULE_PREFIX}{rule}" for rule in rules))
    for kind in chosen:
        if kind not in KINDS and not _RULE.fullmatch(kind):
            raise WrongChannelError(f"no kind is named {kind!r}: docs/alerts.md lists them, and rule:NAME is a rule's")
    if quiet_hours is not None:
        try:
            quiet_hours = str(QuietHours.parse(quiet_hours))
        except ValueError as error:
            raise WrongChannelError(str(error)) from None
    if digest_every is not None and not DIGEST_SPAN[0] <= digest_every <= DIGEST_SPAN[1]:
        raise WrongChannelError("digests are 5 minutes to a day apart")
    return Terms(min_severity, tuple(dict.fromkeys(chosen)) or None, quiet_hours, digest_every)


def webhook_shown_as(url: str) -> str:
    """The host of a webhook's URL. Raises WrongChannelError for a URL that is none of a webhook."""
    wrong = "a webhook's URL looks like https://example.org/path, without a user, a password or a #"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise WrongChannelError(wrong) from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc or parts.fragment or not plain:
        raise WrongChannelError(wrong)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}/…"


def is_webhook(url: str) -> bool:
    """Whether a URL is that of HTTP; all others are for apprise."""
    return url.lower().startswith(("http://", "https://"))


def scheme_of(url: str) -> str:
    """The scheme, in front of what may be secret; `?` if that cannot be told."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator and _PUBLIC_SCHEME.fullmatch(scheme.lower()) else "?"


def new_secret() -> str:
    """43 random characters, which carry 256 bits."""
    return secrets.token_urlsafe(32)


def checked_secret(secret: str) -> str:
    """The secret. Raises WrongChannelError for one that is too short to keep."""
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET or not secret.isascii() or not secret.isprintable():
        raise WrongChannelError(f"a secret has {LEAST_SECRET} to {MOST_SECRET} characters of ASCII")
    return secret
