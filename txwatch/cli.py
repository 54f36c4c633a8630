"""The `txwatch` command. Each command imports the heavy modules that it needs, so that all start quickly."""

import json
import os
import socket
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from txwatch.alerts.channel_commands import channels
from txwatch.archive.commands import archive, query
from txwatch.captures import existing_capture
from txwatch.clock import utc_now
from txwatch.errors import UserError
from txwatch.lab.evaluation.commands import CAPTURE, FilesCommand, backtest, evaluate, evaluate_day
from txwatch.people.commands import keys
from txwatch.places import place
from txwatch.rules.commands import rules
from txwatch.settings import Settings
from txwatch.store.cluster import url_beside
from txwatch.store.database import Connection, connect
from txwatch.system.programs import AS_WRITTEN, execute

if TYPE_CHECKING:
    from txwatch.ingest.worker import Shift

labels = typer.Typer(no_args_is_help=True, help="What is known of addresses, and which of them are watched.")
console = Console(highlight=False, markup=False)

Address = Annotated[str, typer.Argument(help="A Bitcoin address.")]
Host = Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 inside a container.")]
Port = Annotated[int, typer.Option(help="Port to serve on.")]
Played = Annotated[str | None, typer.Option(metavar=CAPTURE, help="Play this capture before simulated traffic.")]
Rate = Annotated[float | None, typer.Option(help="Transactions a second.")]
Regime = Annotated[str, typer.Option(help="2024-03, 2024-10 or 2025-07.")]


def _connected(application: str = "txwatch labels") -> AbstractContextManager[Connection]:
    return connect(url_beside(Settings()), application=application)


def _record(connection: Connection, subject: str, action: str, detail: str = "") -> None:
    from txwatch.people.changes import record_change, shell_user

    record_change(connection, shell_user(), "labels", subject, action, utc_now(), detail)


def _as_named(address: str) -> str:
    """The address as it is stored: Bech32 may be in capitals, as in QR codes. Anything else stays as it is."""
    from txwatch.wire.addresses import AddressError, bitcoin_address

    try:
        return bitcoin_address(address)
    except AddressError:
        return address


@labels.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="TagPacks (.yaml) and CSV files (.csv).")],
    category: Annotated[str | None, typer.Option(help="For labels without one, such as exchange.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Put the addresses on the watch list as well.")] = False,
) -> None:
    """Import labels from GraphSense TagPacks and from CSV (address,entity,source). All files, or none.

    Importing a file again changes nothing. Whales of the past get the flow that the labels now say.
    """
    from txwatch.labels.files import read_labels
    from txwatch.labels.store import import_labels, watch_all
    from txwatch.labels.whales import reclassify_whales

    read = [read_labels(path, category) for path in files]
    for strange in (entry for file in read for entry in file.strange):
        console.print(f"left out: {strange}", soft_wrap=True)
    with _connected() as connection, connection.transaction():
        for file in read:
            done = import_labels(connection, file.labels, utc_now())
            skipped = f", {file.skipped:,} of other currencies left out" if file.skipped else ""
            told = f"{done.new:,} new, {done.changed:,} changed, {done.unchanged:,} unchanged{skipped}"
            _record(connection, file.path.name, "import", told)
            console.print(f"{file.path.name}: {told}", soft_wrap=True)
        if watch:
            added = watch_all(connection, (label for file in read for label in file.labels), utc_now())
            console.print(f"{added:,} more addresses are watched.")
        reclassify_whales(connection)


@labels.command()
def show(address: Address) -> None:
    """What is known of an address, and who says so."""
    from txwatch.labels.store import read_known, read_watch_list

    named = _as_named(address)
    with _connected() as connection:
        known = read_known(connection, [named]).get(named)
        note = read_watch_list(connection).get(named)
    if note is not None:
        console.print(f"Watched: {note or 'without a note'}")
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
    from txwatch.labels.store import watch as put_on_list
    from txwatch.wire.addresses import AddressError, bitcoin_address

    try:
        wanted = bitcoin_address(address)
    except AddressError as error:
        raise UserError(f"{error}.") from error
    with _connected() as connection, connection.transaction():
        put_on_list(connection, wanted, note or "watched", utc_now())
        _record(connection, wanted, "watch", note)
    console.print(f"{wanted} is watched.", soft_wrap=True)


@labels.command()
def unwatch(address: Address) -> None:
    """Watch an address no longer."""
    from txwatch.labels.store import unwatch as take_off_list

    with _connected() as connection, connection.transaction():
        if not take_off_list(connection, _as_named(address), utc_now()):
            raise UserError(f"{address} is not watched.")
        _record(connection, _as_named(address), "unwatch")
    console.print(f"{address} is no longer watched.", soft_wrap=True)


@labels.command()
def watched() -> None:
    """The watch list."""
    from txwatch.labels.store import read_watch_list

    with _connected() as connection:
        for address, note in read_watch_list(connection).items():
            console.print(f"{address}  {note}", soft_wrap=True)


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
errors = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the command. A UserError is one line, without a traceback."""
    try:
        app()
    except UserError as error:
        errors.print(f"[bold red]txwatch:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


@app.command()
def migrate() -> None:
    """Bring the database of DATABASE_URL to the newest schema, and the tables that MLflow has in it."""
    from txwatch.system.launch import prepare_database, upgrade_mlflow

    settings = Settings()
    url = settings.require_database_url()
    prepare_database(settings.home, url, settings.history_start)
    upgrade_mlflow(url)


@app.command()
def feed(
    port: Port = 8765,
    host: Host = "127.0.0.1",
    capture: Played = None,
    rate: Rate = None,
    regime: Regime = "2024-03",
    seed: Annotated[int, typer.Option(help="The same seed and start give the same traffic.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Append what was planted to this file.")] = None,
) -> None:
    """Serve the blockchain.info WebSocket and REST protocol on loopback."""
    from txwatch.lab.simulator.feed import serve

    played = place(capture) if capture else None
    serve(host=host, port=port, capture=played, rate=rate, regime=regime, seed=seed, truth=truth)


@app.command()
def telegram(port: Port = 8766, host: Host = "127.0.0.1") -> None:
    """Serve a local Telegram that prints what it receives; for TELEGRAM_API_URL."""
    from txwatch.lab.simulator.telegram import LocalTelegram
    from txwatch.lab.simulator.telegram_server import phone, serve_telegram

    serve_telegram(LocalTelegram(on_message=lambda message: console.print(phone(message))), port, host)


@app.command()
def bot() -> None:
    """Listen to commands and to the buttons below alerts, in the chats of TELEGRAM_CHAT_ID. Without a token, wait."""
    from txwatch.alerts.bot import AlertBot, wait_without_token
    from txwatch.logs import configure_logging
    from txwatch.waiting import run_until_signalled

    settings = Settings()
    configure_logging(settings, process="bot")
    url, token, chats = settings.require_database_url(), settings.telegram_bot_token, settings.telegram_chats
    if token is None or not chats:
        run_until_signalled(wait_without_token)
    else:
        run_until_signalled(AlertBot(url, token.get_secret_value(), chats, settings.telegram_api_url).run)


@app.command()
def ingest(
    until_relieved: Annotated[
        bool, typer.Option(help="Only until a shift takes over, which Dagster is asked for at once.")
    ] = False,
    standby: Annotated[
        bool, typer.Option("--standby", help="Only while no other worker does: wait until the lease is free.")
    ] = False,
) -> None:
    """Follow the feed in the foreground, landing, scoring and alerting, until Ctrl-C."""
    from txwatch.live.lane import live_lane
    from txwatch.live.standby import stand_by
    from txwatch.logs import configure_logging
    from txwatch.waiting import run_until_signalled

    settings = Settings()
    configure_logging(settings, process="worker")
    holder = f"{socket.gethostname()} process {os.getpid()}"

    def report(shift: "Shift") -> None:
        console.print(f"Landed {shift.landed} transactions; {shift.reason}.")

    if standby:
        url = settings.require_database_url()
        run_until_signalled(lambda stop: stand_by(url, lambda: live_lane(settings, holder), stop, ended=report))
    else:
        report(run_until_signalled(live_lane(settings, holder, relieved=until_relieved).run))


@app.command()
def record(
    capture: Annotated[str, typer.Argument(metavar=CAPTURE, help="A new capture, gzipped if its name ends in .gz.")],
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
) -> None:
    """Capture the feed to a file, until Ctrl-C or SIGTERM.

    What goes to S3 is written to a file under TXWATCH_HOME first, and put into the bucket when the recording ends. The
    file is removed then. It stays, and is named, if it could not be put there; after a kill without a warning
    (SIGKILL, or the machine's end) it holds all but the last second or so.
    """
    from txwatch.ingest.recording import file_to_record, put_recording, record_until_signalled

    settings, destination = Settings(), place(capture)
    file = file_to_record(destination, settings.home)
    if not isinstance(destination, Path):
        console.print(f"Recording to {file}, which goes to {destination} at the end.", markup=False, soft_wrap=True)
    done = record_until_signalled(settings.stream_url, file, seconds)
    console.print(f"Recorded {done.messages} messages, {done.skipped} left out, {done.disconnects} disconnections.")
    if not isinstance(destination, Path):
        put_recording(file, destination)
        console.print(f"Put into {destination}.", markup=False, soft_wrap=True)


@app.command()
def replay(capture: Annotated[str, typer.Argument(metavar=CAPTURE, help="A capture.")]) -> None:
    """Land a capture in the database of DATABASE_URL, each message at the moment at which it was received."""
    from txwatch.ingest.recording import replay as land_capture

    recorded = existing_capture(place(capture))
    with _connected("txwatch replay") as connection:
        console.print(f"Landed {land_capture(connection, recorded)} transactions.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Health and service levels."""
    from txwatch.queries.status import read_status

    with _connected("txwatch status") as connection:
        found = read_status(connection, utc_now())
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    table = Table(show_header=False, box=None)
    for name, value in found.in_words():
        table.add_row(name, value)
    console.print(table)


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Other than loopback needs TXWATCH_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8000,
) -> None:
    """Serve the HTTP API, its live stream and its metrics."""
    from txwatch.api.app import serve_api

    serve_api(Settings(), host, port)


@app.command()
def dashboard(
    host: Annotated[str, typer.Option(help="It has no key: other than loopback only behind something that has.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port.")] = 8502,
) -> None:
    """Serve the dashboard, on loopback unless told otherwise."""
    from txwatch.dashboard.app import serve_dashboard

    serve_dashboard(Settings(), host, port)


@app.command()
def demo(
    capture: Played = None,
    seconds: Annotated[float | None, typer.Option(help="Stop this long after the first live message.")] = None,
    rate: Rate = None,
    regime: Regime = "2024-03",
    sources: Annotated[str, typer.Option(help="As TXWATCH_SOURCES, of the local feed.")] = "blockchain.info",
    node: Annotated[
        Path | None, typer.Option(help="Follow two nodes on regtest besides, run by this bitcoind, and spend there.")
    ] = None,
) -> None:
    """Run the whole system from nothing on the local feed."""
    from txwatch.system.demo import DemoOptions, run_demo

    raise typer.Exit(run_demo(DemoOptions(place(capture) if capture else None, seconds, rate, regime, sources, node)))


@app.command()
def run() -> None:
    """Run the whole system on the live feed."""
    from txwatch.system.launch import run_live

    raise typer.Exit(run_live(Settings()))


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")]) -> None:
    """Write the database and the state of TXWATCH_HOME into one file, while the system may run."""
    from txwatch.system.backup import backup as write_backup
    from txwatch.system.launch import database_beside

    settings = Settings()
    with database_beside(settings) as url:
        card = write_backup(url, settings.home, file, utc_now())
    console.print(f"Backed up schema {card.revision} to {file} ({file.stat().st_size / 1e6:.1f} MB).")


@app.command()
def restore(file: Annotated[Path, typer.Argument(help="A file that `txwatch backup` wrote.")]) -> None:
    """Restore a backup into an empty database and a TXWATCH_HOME without state. The archive is where it was."""
    from txwatch.archive.manifest import archive_of
    from txwatch.system.backup import restore as restore_backup
    from txwatch.system.launch import database_beside

    settings = Settings()
    with database_beside(settings) as url:
        card = restore_backup(url, settings.home, file, archive_of(settings))
    console.print(f"Restored the backup of {card.made_at}.")


@app.command()
def doctor() -> None:
    """Say in plain words what is missing. Ends with 1 if something is."""
    from txwatch.system.doctor import examine
    from txwatch.system.findings import Level

    colours = {Level.good: "green", Level.note: "yellow", Level.wrong: "bold red"}
    found = set()
    for finding in examine(Settings()):
        found.add(finding.level)
        remedy = f"\n       {escape(finding.remedy)}" if finding.remedy else ""
        mark = f"[{colours[finding.level]}]{finding.level.value:5}[/]"
        console.print(f"{mark}  {finding.what}: {escape(finding.text)}{remedy}", soft_wrap=True, markup=True)
    raise typer.Exit(1 if Level.wrong in found else 0)


app.add_typer(labels, name="labels")
app.add_typer(keys, name="keys")
app.add_typer(rules, name="rules")
app.add_typer(channels, name="channels")
app.add_typer(archive, name="archive")
app.command()(query)
app.command(cls=FilesCommand)(evaluate)
app.command()(backtest)
app.command()(evaluate_day)
app.command("exec", context_settings=AS_WRITTEN)(execute)
