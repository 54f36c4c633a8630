"""`txwatch channels`: where alerts go besides the chats of TELEGRAM_CHAT_ID. Nothing shows a URL or an old secret."""

import asyncio
import sys
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from txwatch.clock import utc_now
from txwatch.errors import UserError
from txwatch.people.changes import record_change, shell_user
from txwatch.settings import Settings
from txwatch.store.cluster import url_beside
from txwatch.store.database import Connection, connect

if TYPE_CHECKING:
    from txwatch.channels.channel import Channel
    from txwatch.channels.outcomes import Outcome

channels = typer.Typer(no_args_is_help=True, help="Where alerts go besides Telegram: webhooks, and what apprise knows.")
console = Console(highlight=False, markup=False)

Name = Annotated[str, typer.Argument(help="A channel's name, or a chat's id.")]


def _connected() -> AbstractContextManager[Connection]:
    return connect(url_beside(Settings()), application="txwatch channels")


def _record(connection: Connection, name: str, action: str) -> None:
    record_change(connection, shell_user(), "channels", name, action, utc_now())


@channels.command("list")
def show() -> None:
    """All channels, how each stands, and which alerts it gets."""
    from txwatch.channels.store import list_channels

    with _connected() as connection:
        found = list_channels(connection)
    if not found:
        console.print("No channels. `txwatch channels add` adds one; TELEGRAM_CHAT_ID names chats.")
        return
    table = Table("channel", "leads to", "state", "gets", "sent", "waiting", "uncertain", "dead", "last sent")
    for one in found:
        counts = (str(count) for count in (one.sent, one.waiting, one.uncertain, one.dead))
        last = "" if one.last_sent_at is None else f"{one.last_sent_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(one.channel, one.shown_as or "Telegram", _state(one), _terms(one), *counts, last)
    console.print(table)


def _state(one: "Channel") -> str:
    since = one.disabled_at or one.refused_since
    said = one.state if since is None else f"{one.state} since {since:%Y-%m-%d %H:%M}"
    return said if one.refusal is None else f"{said}: {one.refusal}"


def _terms(one: "Channel") -> str:
    parts = [
        *([] if one.min_severity is None else [f"{one.min_severity} and above"]),
        *([", ".join(one.kinds)] if one.kinds else []),
        *([f"quiet {one.quiet_hours}"] if one.quiet_hours else []),
        *([f"a digest in {one.digest_every.total_seconds() / 60:.0f} min"] if one.digest_every else []),
    ]
    chosen = one.min_severity is not None or one.kinds
    return "; ".join(parts if chosen else ["everything", *parts])


@channels.command()
def add(
    name: Annotated[str, typer.Argument(help="Its name: a-z, 0-9, _ and -.")],
    url: Annotated[str, typer.Argument(help="https://... of a webhook, or a URL of apprise. `-` reads it from stdin.")],
    least: Annotated[str | None, typer.Option(help="Least severity: low, medium, high or critical.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only alerts of this kind; may be repeated.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only alerts of this rule, `*` for all; as --kind.")] = None,
    quiet: Annotated[str | None, typer.Option(help="Quiet hours, such as '22:00-07:00 Europe/Berlin'.")] = None,
    digest: Annotated[int | None, typer.Option(help="All but critical alerts in digests, minutes apart.")] = None,
) -> None:
    """Add a channel, which gets the alerts from now on. A webhook's secret is printed once."""
    from txwatch.channels.channel import terms
    from txwatch.channels.store import add_by_url
    from txwatch.rules.store import list_rules

    every = None if digest is None else timedelta(minutes=digest)
    wanted = terms(least, kind or (), rule or (), quiet, every)
    with _connected() as connection, connection.transaction():
        secret = add_by_url(connection, name, sys.stdin.readline() if url == "-" else url, wanted)
        _record(connection, name, "add")
        unknown = set(rule or ()) - {"*", *(one.name for one in list_rules(connection))}
    console.print(f"{name} gets alerts from now on. `txwatch channels test {name}` tries it.", soft_wrap=True)
    if unknown:
        console.print(f"There is no rule {', '.join(sorted(unknown))} yet: {name} gets its alerts once there is.")
    _tell(secret)


def _tell(secret: str | None) -> None:
    if secret is not None:
        console.print(f"Its secret, which is not shown again: {secret}", soft_wrap=True)


@channels.command()
def test(name: Name) -> None:
    """Send a message that says only that messages arrive, and say what became of it."""
    from txwatch.channels.outcomes import Sent

    outcome = asyncio.run(_test(Settings(), name))
    if not isinstance(outcome, Sent):
        raise UserError(f"{name}: {outcome.reason}")
    console.print(f"It arrived at {name}.")


async def _test(settings: Settings, name: str) -> "Outcome":
    from txwatch.alerts.dispatcher import Chats

    async with Chats.of(settings).dispatcher(url_beside(settings)) as dispatcher:
        return await dispatcher.test(name)


@channels.command()
def disable(name: Name) -> None:
    """Give a channel no alerts. What waits for it goes on waiting."""
    _enable(name, enabled=False)
    console.print(f"{name} gets no alerts.")


@channels.command()
def enable(name: Name) -> None:
    """Give a channel alerts again, and what waits for it."""
    _enable(name, enabled=True)
    console.print(f"{name} gets alerts from now on.")


def _enable(name: str, *, enabled: bool) -> None:
    from txwatch.channels.store import set_enabled

    with _connected() as connection, connection.transaction():
        set_enabled(connection, name, utc_now(), enabled=enabled)
        _record(connection, name, "enable" if enabled else "disable")


@channels.command()
def rotate(
    name: Name,
    hours: Annotated[float, typer.Option(help="How long the secret before it signs as well.", min=0, max=720)] = 24,
) -> None:
    """Sign with a new secret, which is printed once, and for a while with the one before it too."""
    from txwatch.channels.channel import new_secret
    from txwatch.channels.store import rotate_secret

    secret = new_secret()
    with _connected() as connection, connection.transaction():
        rotate_secret(connection, name, secret, utc_now() + timedelta(hours=hours))
        _record(connection, name, "rotate")
    _tell(secret)
    console.print(f"The one before it signs as well for {hours:g} hours.")


@channels.command()
def remove(name: Name) -> None:
    """Remove a channel with its secrets and what waits for it."""
    from txwatch.channels.store import remove_channel

    with _connected() as connection, connection.transaction():
        remove_channel(connection, name)
        _record(connection, name, "remove")
    console.print(f"{name} is removed.")
