"""The commands of `txwatch labels`: import, look up, and the watch list."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.database import Connection

labels = typer.Typer(no_args_is_help=True, help="What is known of addresses, and which of them are watched.")
console = Console(highlight=False)

Address = Annotated[str, typer.Argument(help="A Bitcoin address.")]


@labels.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="TagPacks (.yaml) and CSV files (.csv).")],
    category: Annotated[str | None, typer.Option(help="For labels without one, such as exchange.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Put the addresses on the watch list as well.")] = False,
) -> None:
    """Import labels from GraphSense TagPacks and from CSV (address,entity,source). All files, or none.

    Importing a file again changes nothing. Whales of the past get the flow that the labels now say.
    """
    from txwatch.clock import utc_now
    from txwatch.labels.files import read_labels
    from txwatch.labels.store import import_labels
    from txwatch.labels.watch_list import watch_all
    from txwatch.whales.moves import reclassify_whales

    read = [read_labels(path, category) for path in files]
    for strange in (place for file in read for place in file.strange):
        console.print(f"left out: {strange}", soft_wrap=True, markup=False)
    with _connected() as connection, connection.transaction():
        for file in read:
            done = import_labels(connection, file.labels, utc_now())
            skipped = f", {file.skipped:,} of other currencies left out" if file.skipped else ""
            console.print(
                f"{file.path.name}: {done.new:,} new, {done.changed:,} changed, {done.unchanged:,} unchanged{skipped}",
                soft_wrap=True,
            )
        if watch:
            added = watch_all(connection, (label for file in read for label in file.labels), utc_now())
            console.print(f"{added:,} more addresses are watched.")
        reclassify_whales(connection)


@labels.command()
def show(address: Address) -> None:
    """What is known of an address, and who says so."""
    from txwatch.labels.store import read_known
    from txwatch.labels.watch_list import read_watch_list

    with _connected() as connection:
        known = read_known(connection, [address]).get(address)
        note = read_watch_list(connection).get(address)
    if note is not None:
        console.print(f"Watched: {note or 'without a note'}", markup=False)
    if known is None:
        console.print("No label.")
        return
    table = Table("entity", "category", "confidence", "source", "note")
    for label in known.labels:
        table.add_row(label.entity, label.category, label.confidence, label.source, label.note)
    console.print(table)


@labels.command()
def watch(address: Address, note: Annotated[str, typer.Option(help="Shown in the alert.")] = "") -> None:
    """Alert on every transaction that spends from an address or pays to it. In effect within a second."""
    from txwatch.clock import utc_now
    from txwatch.labels.watch_list import watch as put_on_list
    from txwatch.wire.addresses import AddressError, bitcoin_address

    try:
        wanted = bitcoin_address(address)
    except AddressError as error:
        raise UserError(f"{error}.") from error
    with _connected() as connection, connection.transaction():
        put_on_list(connection, wanted, note or "watched", utc_now())
    console.print(f"{wanted} is watched.", soft_wrap=True)


@labels.command()
def unwatch(address: Address) -> None:
    """Watch an address no longer."""
    from txwatch.clock import utc_now
    from txwatch.labels.watch_list import unwatch as take_off_list

    with _connected() as connection, connection.transaction():
        if not take_off_list(connection, address, utc_now()):
            raise UserError(f"{address} is not watched.")
    console.print(f"{address} is no longer watched.", soft_wrap=True)


@labels.command()
def watched() -> None:
    """The watch list."""
    from txwatch.labels.watch_list import read_watch_list

    with _connected() as connection:
        for address, note in read_watch_list(connection).items():
            console.print(f"{address}  {note}", soft_wrap=True, markup=False)


@contextmanager
def _connected() -> Iterator[Connection]:
    from txwatch.store.database import connect

    with connect(Settings().require_database_url(), application="txwatch labels") as connection:
        yield connection
