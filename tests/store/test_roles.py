"""Each service's role in the database can do what the service needs, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from tests.conftest import copied_database
from tests.deploy import compose
from txwatch.alerts.bot import record_bot_status
from txwatch.clock import utc_now
from txwatch.store.database import Connection, connect
from txwatch.store.migrate import migrate
from txwatch.store.retention import drop_days, ensure_days
from txwatch.store.roles import PREFIX, RIGHTS, grant_roles, read_passwords

CHANGE = "INSERT INTO changes (changed_at, who, area, subject, action, detail) VALUES (now(), '', '', '', '', '')"
PASSWORDS = {service: f"password of {service}" for service in RIGHTS}
DAY = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def owned(prepared: str, server_url: str) -> Iterator[Connection]:
    """A database with the tables of ours, Dagster and Feast, and its roles."""
    with connect(copied_database(server_url, prepared)) as connection:
        grant_roles(connection, PASSWORDS)
        yield connection
        drop_roles(connection)


def drop_roles(connection: Connection) -> None:
    ours = [PREFIX + service for service in RIGHTS]
    for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [ours]).fetchall():
        connection.execute(f"DROP OWNED BY {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def role(owned: Connection) -> Iterator[Connection]:
    """A connection that a test gives to a role."""
    with owned.transaction(force_rollback=True):
        yield owned


def become(connection: Connection, service: str) -> None:
    connection.execute(f"SET LOCAL SESSION AUTHORIZATION {PREFIX}{service}")


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("code", "INSERT INTO dagster.secondary_indexes (name) VALUES ('x')"),
        ("code", "SELECT nextval('context_publications')"),
        ("code", "CREATE TABLE feast.feast_entity_df_of_a_training (id integer)"),
        ("webserver", "INSERT INTO dagster.kvs (key, value) VALUES ('k', 'v')"),
        ("daemon", "DELETE FROM dagster.job_ticks"),
        ("mlflow", "CREATE TABLE mlflow.new (id integer)"),
        ("api", "SELECT count(*) FROM transactions, dagster.runs, feast.feature_views"),
        ("api", "DELETE FROM feedback"),
        ("api", "SELECT pg_sequence_last_value('alert_stream_numbers')"),
        ("api", "UPDATE alert_stream SET sequence = nextval('alert_stream_numbers')"),
        ("api", "INSERT INTO rules SELECT * FROM rules"),
        (
            "api",
            "INSERT INTO changes (changed_at, who, area, subject, action, detail) VALUES (now(), '', '', '', '', '')",
        ),
        (
            "bot",
            "INSERT INTO changes (changed_at, who, area, subject, action, detail) VALUES (now(), '', '', '', '', '')",
        ),
        ("api", "SELECT count(*) FROM channel_secrets"),
        ("api", "INSERT INTO channels (channel, kind) VALUES ('siem', 'webhook')"),
        ("api", "INSERT INTO channel_requests (channel, purpose, started_at) VALUES ('siem', 'test', now())"),
        ("dashboard", "SELECT count(*) FROM alerts, channels"),
        ("bot", "UPDATE channels SET failures = 0"),
    ],
)
def test_a_service_can_do_what_it_needs(role: Connection, service: str, statement: str) -> None:
    become(role, service)
    role.execute(statement)


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("code", "SELECT * FROM mlflow.experiments"),
        ("code", "DROP TABLE alerts"),
        ("code", "CREATE ROLE other"),
        ("dashboard", "SELECT * FROM channel_secrets"),
        ("bot", "SELECT * FROM channel_secrets"),
        ("webserver", "SELECT * FROM alerts"),
        ("webserver", "DROP TABLE dagster.runs"),
        ("daemon", "SELECT * FROM feast.feature_views"),
        ("mlflow", "SELECT * FROM alerts"),
        ("api", "DELETE FROM alerts"),
        ("api", "DELETE FROM dagster.runs"),
        ("api", "SELECT nextval('context_publications')"),
        ("dashboard", "DELETE FROM feedback"),
        ("bot", "DELETE FROM alerts"),
        ("bot", "CREATE TABLE other (id integer)"),
    ],
)
def test_and_no_more(role: Connection, service: str, statement: str) -> None:
    become(role, service)
    with pytest.raises(InsufficientPrivilege):
        role.execute(statement)


def test_the_bot_records_how_it_fares(role: Connection) -> None:
    become(role, "bot")
    record_bot_status(role, utc_now(), None)


def test_runs_make_and_drop_the_days_of_tables_also_after_the_roles_are_given_again(role: Connection) -> None:
    become(role, "code")
    ensure_days(role, "transaction_features", DAY, DAY + timedelta(days=1))
    role.execute("RESET SESSION AUTHORIZATION")
    grant_roles(role, PASSWORDS)
    become(role, "code")
    role.execute("SELECT count(*) FROM transaction_features")
    assert [day.dropped for day in drop_days(role, "transaction_features", DAY + timedelta(days=1))] == [True]


def test_what_a_role_no_longer_needs_is_taken_back(role: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIGHTS, "api", RIGHTS["dashboard"])
    grant_roles(role, {"api": PASSWORDS["api"]})
    become(role, "api")
    with pytest.raises(InsufficientPrivilege):
        role.execute("DELETE FROM feedback")


def test_the_server_keeps_a_password_as_its_hash(owned: Connection) -> None:
    [(kept,)] = owned.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'txwatch_bot'").fetchall()
    assert kept.startswith("SCRAM-SHA-256$")


def test_the_roles_are_those_of_the_services_that_log_in(tmp_path: Path) -> None:
    services = compose.ours(compose.load())
    users = {
        name: service["environment"]["DATABASE_USER"]
        for name, service in services.items()
        if "DATABASE_USER" in service["environment"]
    }
    assert users == {service: PREFIX + service for service in RIGHTS}
    for service in RIGHTS:
        assert services[service]["environment"]["DATABASE_PASSWORD_FILE"] == f"/run/secrets/database_{service}"
        (tmp_path / f"database_{service}").write_text("secret\n" if service != "bot" else "\n")
    assert read_passwords(tmp_path) == {service: "secret" for service in RIGHTS if service != "bot"}
    assert services["init"]["environment"]["DATABASE_ROLES"] == "/run/secrets"
    assert {f"database_{service}" for service in RIGHTS} <= set(services["init"]["secrets"])


def test_an_owner_who_is_no_superuser_can_give_the_roles(server_url: str, owned: Connection) -> None:
    """As where the database is a service of somebody else's."""
    drop_roles(owned)
    url = copied_database(server_url, "template0")
    database = urlsplit(url).path[1:]
    owned.execute("CREATE ROLE somebody LOGIN CREATEROLE")
    owned.execute(f"ALTER DATABASE {database} OWNER TO somebody")
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SCHEMA public OWNER TO somebody")
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        theirs = urlunsplit(parts._replace(netloc=f"somebody:@{place}"))
        migrate(theirs)
        with connect(theirs) as connection:
            grant_roles(connection, PASSWORDS)
            grant_roles(connection, PASSWORDS)
            connection.execute("SELECT count(*) FROM transactions")
            connection.execute("ALTER TABLE transaction_features ADD COLUMN later integer")
            drop_roles(connection)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY somebody CASCADE")
        owned.execute(f"DROP DATABASE {database} WITH (FORCE)")
        owned.execute("DROP ROLE somebody")
