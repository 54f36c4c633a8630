"""`txwatch keys`: who may use the API, and for what."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from txwatch.clock import utc_now
from txwatch.errors import UserError
from txwatch.people.changes import record_change, shell_user
from txwatch.people.keys import SCOPES, add_key, list_keys, revoke_key
from txwatch.settings import Settings
from txwatch.store.cluster import url_beside
from txwatch.store.database import connect

keys = typer.Typer(no_args_is_help=True, help="Keys of the API: whose they are, and what they may do.")
console = Console(highlight=False, markup=False)
Name = Annotated[str, typer.Argument(help="Whose key it is: a person, or a program.")]


@keys.command()
def add(
    name: Name,
    scope: Annotated[list[str], typer.Option(help="read, score or manage; several times for several.")],
    days: Annotated[int | None, typer.Option(min=1, max=3_650, help="For how long; for ever by default.")] = None,
) -> None:
    """Make a key, and print it. It is shown this once: what is kept is its hash."""
    now = utc_now()
    expires_at = None if days is None else now + timedelta(days=days)
    with connect(url_beside(Settings()), application="txwatch keys") as connection, connection.transaction():
        key = add_key(connection, name, scope, now, expires_at)
        record_change(connection, shell_user(), "keys", name, "add", now, ", ".join(scope))
    console.print(key, soft_wrap=True)


@keys.command("list")
def show() -> None:
    """All keys that were ever made, without themselves."""
    with connect(url_beside(Settings()), application="txwatch keys") as connection:
        found = list_keys(connection)
    table = Table("name", "may", "made", "until", box=None)
    for key in found:
        ends = key.revoked_at or key.expires_at
        until = "" if ends is None else f"{'revoked ' if key.revoked_at else ''}{ends:%Y-%m-%d %H:%M}"
        table.add_row(key.name, ", ".join(key.scopes), f"{key.created_at:%Y-%m-%d %H:%M}", until)
    if not found:
        raise UserError(f"There is no key yet: txwatch keys add NAME --scope {'|'.join(SCOPES)}")
    console.print(table)


@keys.command()
def revoke(name: Name) -> None:
    """End a key, at once. Its name stays with what was done by it."""
    now = utc_now()
    with connect(url_beside(Settings()), application="txwatch keys") as connection, connection.transaction():
        revoke_key(connection, name, now)
        record_change(connection, shell_user(), "keys", name, "revoke", now)
    console.print(f"The key {name} is revoked.", soft_wrap=True)
