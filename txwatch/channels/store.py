"""Channels in Postgres. What may be shown is in `channels`, what may not in `channel_secrets`."""

from dataclasses import asdict
from datetime import datetime

from txwatch.channels.apprise import is_own_url_of_a_service, service_shown_as
from txwatch.channels.channel import (
    MOST_CHANNELS,
    Channel,
    Kind,
    Target,
    Terms,
    WrongChannelError,
    channel_name,
    checked_secret,
    is_chat,
    is_webhook,
    new_secret,
    webhook_shown_as,
)
from txwatch.store.database import Connection, read_rows, scalar, statement


class NoSuchChannelError(WrongChannelError):
    """There is no channel of that name."""


def list_channels(connection: Connection) -> list[Channel]:
    """All channels: chats by id, then others by name."""
    return read_rows(connection, Channel, statement("channels", "list_channels"), {"channel": None})


def read_one(connection: Connection, channel: str) -> Channel:
    """One channel. Raises NoSuchChannelError."""
    found = read_rows(connection, Channel, statement("channels", "list_channels"), {"channel": channel})
    if not found:
        raise NoSuchChannelError(f"there is no channel {channel!r}")
    return found[0]


def active_channels(connection: Connection) -> list[str]:
    """The names of those besides chats that get alerts."""
    rows = connection.execute(
        "SELECT channel FROM channels WHERE kind <> 'telegram' AND disabled_at IS NULL ORDER BY channel"
    )
    return [channel for (channel,) in rows]


def kind_of(connection: Connection, channel: str) -> Kind | None:
    """The kind of a channel; None for one that is gone. A chat may have no row yet."""
    kind: Kind | None = scalar(connection, "SELECT kind FROM channels WHERE channel = %s", [channel])
    return "telegram" if kind is None and is_chat(channel) else kind


def read_target(connection: Connection, channel: str, now: datetime) -> Target:
    """Where a channel leads, with the secrets that are valid now. Raises NoSuchChannelError."""
    row = connection.execute(statement("channels", "select_target"), {"channel": channel, "now": now}).fetchone()
    if row is None:
        raise NoSuchChannelError(f"there is no channel {channel!r}")
    url, *secrets = row
    return Target(url, tuple(secret for secret in secrets if secret is not None))


def add_by_url(connection: Connection, name: str, url: str, wanted: Terms, secret: str | None = None) -> str | None:
    """Add the channel that a URL leads to, and give the secret that signs, or None if nothing does.

    HTTP is a webhook, unless apprise knows the URL as a service's own. Without a secret a webhook gets a new one.
    Raises WrongChannelError.
    """
    name, url = channel_name(name), url.strip()
    if is_webhook(url) and not is_own_url_of_a_service(url):
        if wanted.digest_every is not None:
            raise WrongChannelError("a webhook gets each alert by itself: digests are for people")
        shown_as = webhook_shown_as(url)
        secret = new_secret() if secret is None else checked_secret(secret)
        add_channel(connection, name, "webhook", shown_as, Target(url, (secret,)), wanted)
        return secret
    if secret is not None:
        raise WrongChannelError("a secret is for a webhook: a service of apprise has what it needs in its URL")
    add_channel(connection, name, "apprise", service_shown_as(url), Target(url), wanted)
    return None


def add_channel(connection: Connection, channel: str, kind: Kind, shown_as: str, target: Target, wanted: Terms) -> None:
    """Add one, which gets the alerts that are raised from now on. Raises WrongChannelError if it cannot be added."""
    kinds = None if wanted.kinds is None else list(wanted.kinds)
    given = asdict(wanted) | {"channel": channel, "kind": kind, "shown_as": shown_as, "kinds": kinds}
    with connection.transaction():
        if connection.execute(statement("channels", "insert_channel"), given | {"most": MOST_CHANNELS}).rowcount == 0:
            raise WrongChannelError(f"there is a channel {channel!r} already, or {MOST_CHANNELS} are there, the most")
        connection.execute(
            "INSERT INTO channel_secrets (channel, url, secret) VALUES (%s, %s, %s)",
            [channel, target.url, target.secrets[0] if target.secrets else None],
        )


def set_enabled(connection: Connection, channel: str, now: datetime, *, enabled: bool) -> None:
    """Let a channel get alerts, or none; what waits for it goes on waiting. Raises NoSuchChannelError."""
    changed = connection.execute(
        "UPDATE channels SET disabled_at = NULL, refused_since = NULL, refusal = NULL, failures = 0, retry_at = NULL"
        " WHERE channel = %(channel)s"
        if enabled
        else "UPDATE channels SET disabled_at = coalesce(disabled_at, %(now)s), refused_since = NULL, refusal = NULL"
        " WHERE channel = %(channel)s",
        {"channel": channel, "now": now},
    )
    if changed.rowcount == 0:
        raise NoSuchChannelError(f"there is no channel {channel!r}")


def remove_channel(connection: Connection, channel: str) -> None:
    """Remove one with its secrets and what waits for it; what was sent stays. Raises WrongChannelError for a chat."""
    with connection.transaction():
        if kind_of(connection, channel) == "telegram":
            raise WrongChannelError(f"{channel!r} is a chat: take it out of TELEGRAM_CHAT_ID, or disable it")
        if connection.execute("DELETE FROM channels WHERE channel = %s", [channel]).rowcount == 0:
            raise NoSuchChannelError(f"there is no channel {channel!r}")
        # Another receiver may get this name. There nothing of before comes, neither what may have arrived nor updates
        # of what was sent, and what is answered to a request that is under way says nothing of it.
        connection.execute("DELETE FROM channel_requests WHERE channel = %s", [channel])
        connection.execute(
            "DELETE FROM alert_deliveries WHERE channel = %s AND state NOT IN ('sent', 'digested')", [channel]
        )
        connection.execute("UPDATE alert_deliveries SET shown_updates = NULL WHERE channel = %s", [channel])


def rotate_secret(connection: Connection, channel: str, secret: str, until: datetime) -> None:
    """Sign with a new secret, and with the one before it until a moment. Raises WrongChannelError if it signs not."""
    given = {"channel": channel, "secret": secret, "until": until}
    if connection.execute(statement("channels", "rotate_secret"), given).rowcount == 0:
        raise WrongChannelError(f"there is no webhook {channel!r}: only webhooks have a secret")
