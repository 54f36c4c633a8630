"""The host in AWS: what its containers log in with is renewed in files, and they follow without being started anew."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import psycopg2
import pytest
import yaml
from botocore.session import Session

from tests.deploy.compose import PROJECT
from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.clock import utc_now
from txwatch.features.feast import feast_environment, feature_store
from txwatch.store.cluster import embedded_postgres, server_program
from txwatch.store.database import connect, connection_pool
from txwatch.store.migrate import migrate
from txwatch.system.backup import backup
from txwatch.system.entrypoint import with_secrets

HOST = PROJECT / "deploy/terraform/host"
ROLE = (PROJECT / "deploy/terraform/role.sql").read_bytes()
OVER = yaml.safe_load((PROJECT / "deploy/terraform/compose.aws.yml").read_text())
TOKEN = "127.0.0.1:5432/?Action=connect&DBUser=txwatch&X-Amz-Security-Token=" + "Zm9v\\:%2F" * 150
"""As long as RDS's are with the keys of a role, and with what a file of passwords must escape."""


@pytest.fixture(scope="module")
def rds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server that asks for passwords, as RDS does: the URL of its superuser on a socket, and the port on loopback."""
    home, port = tmp_path_factory.mktemp("rds"), free_port()
    with embedded_postgres(home) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE rds_iam")
        connection.execute("CREATE ROLE owner LOGIN CREATEROLE CREATEDB PASSWORD 'master'")
        connection.execute("GRANT rds_iam TO owner WITH ADMIN OPTION")
        connection.execute("CREATE DATABASE txwatch OWNER owner")
    (home / "postgres/pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    owner = (home / "postgres").owner() if os.geteuid() == 0 else None
    folder = str(home / "postgres")
    command = [server_program("postgres"), "-D", home / "postgres", "-h", "127.0.0.1", "-k", folder, "-p", str(port)]
    with (home / "log").open("w") as log, subprocess.Popen(command, user=owner, stdout=log, stderr=log) as server:
        try:
            superuser = f"postgresql://postgres:@/postgres?host={folder}&port={port}"
            wait_until(lambda: takes(superuser), "the server")
            with psycopg.connect(f"postgresql://owner:master@127.0.0.1:{port}/txwatch", autocommit=True) as master:
                for _ in range(2):
                    master.execute(ROLE)
            yield superuser, str(port)
        finally:
            server.send_signal(signal.SIGINT)


def takes(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


class Machine(NamedTuple):
    """The host's folder, and what AWS and Docker are asked there."""

    folder: Path
    environment: dict[str, str]

    def run(self, script: str) -> None:
        command = ["bash", str(self.folder / "deploy/terraform/host" / script)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def gives(self, what: str, text: str) -> None:
        """Let AWS give this from now on."""
        (self.folder / "aws" / what).write_text(text)

    def asked_of_docker(self) -> list[str]:
        return (self.folder / "docker.log").read_text().splitlines()


AWS = """#!/bin/bash
# Stands for Amazon's command: gives what the test has laid down, and fails without it.
case "$1 $2" in
"s3 sync") exit 0 ;;
*) cat "$STANDS_IN/$2" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """The host after its user data, with programs that stand for Amazon's and Docker's."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    folder = tmp_path / "host"
    shutil.copytree(HOST, folder / "deploy/terraform/host")
    shutil.copytree(PROJECT / "deploy/docker", folder / "deploy/docker")
    (folder / "aws").mkdir()
    (folder / "bin").mkdir()
    for name, text in {"aws": AWS, "docker": f'#!/bin/sh\necho "$@" >>{folder}/docker.log\n'}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / "host.env").write_text(
        "REGION=eu-central-1\nNAME=watch\nDATABASE_HOST=127.0.0.1\nDATABASE_USER=txwatch\nFILES_ROLE=arn:aws:iam::1:role/f\n"
    )
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    owner = f"{os.getuid()}:{os.getgid()}"
    made = Machine(folder, {"PATH": path, "STANDS_IN": str(folder / "aws"), "OWNER": owner})
    made.gives("generate-db-auth-token", TOKEN)
    made.gives("assume-role", keys("first"))
    return made


def keys(name: str, valid: timedelta = timedelta(hours=1)) -> str:
    expiration = (datetime.now(UTC) + valid).isoformat()
    return json.dumps({"AccessKeyId": name, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration})


@pytest.fixture
def services(machine: Machine, rds: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Lets this process log in as the host's services do; gives the URL of the database by that."""
    # RDS listens at 5432, which the script writes down.
    port = rds[1]
    monkeypatch.setenv("PGPASSFILE", str(machine.folder / "pgpass"))

    def renew(token: str) -> str:
        machine.gives("generate-db-auth-token", token)
        machine.run("refresh")
        file = machine.folder / "pgpass"
        file.unlink(missing_ok=True)
        file.write_text((machine.folder / "run/database/pgpass").read_text().replace(":5432:", f":{port}:", 1))
        file.chmod(0o400)
        return f"postgresql://txwatch@127.0.0.1:{port}/txwatch"

    return renew


def test_the_role_of_the_application_is_made_by_a_master_user_that_is_no_superuser(rds: tuple[str, str]) -> None:
    superuser, _ = rds
    with psycopg.connect(superuser) as connection:
        owner = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'txwatch'"
        ).fetchone()
        roles = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolpassword IS NULL,"
            " pg_has_role('txwatch', 'rds_iam', 'MEMBER')"
            " FROM pg_authid WHERE rolname = 'txwatch'"
        ).fetchone()
    assert owner == ("txwatch",)
    assert roles == (False, False, False, True, True)


def test_a_new_token_is_followed_by_everything_that_connects_and_ends_no_connection(
    rds: tuple[str, str], services: Callable[[str], str], tmp_path: Path
) -> None:
    superuser, _ = rds
    with psycopg.connect(superuser, autocommit=True) as connection:
        change = "DO $$ BEGIN EXECUTE format('ALTER ROLE txwatch PASSWORD %L', current_setting('test.token')); END $$"

        def only_takes(token: str) -> None:
            connection.execute("SELECT set_config('test.token', %s, false)", [token])
            connection.execute(change)

        only_takes(TOKEN)
        url = services(TOKEN)
        migrate(url)
        with connection_pool(url, application="a service", max_size=2) as pool:
            with pool.connection() as held:
                only_takes(TOKEN + "2")
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    connect(url)
                services(TOKEN + "2")
                assert held.execute("SELECT 1").fetchone() == (1,)
                # Of this process, which was not told of it.
                with connect(url) as anew, pool.connection() as second:
                    assert anew.execute("SELECT 1").fetchone() == second.execute("SELECT 2 - 1").fetchone()
            # What Dagster, Feast and pg_dump connect with.
            psycopg2.connect(url).close()
            assert feast_environment(url)["FEAST_DB_PASSWORD"] == ""
            with feature_store(url) as store:
                assert store.list_feature_views() == []
            card = backup(url, tmp_path / "home", tmp_path / "backup.tar", utc_now())
            assert card.revision


def test_what_could_not_be_had_leaves_what_was_there(machine: Machine) -> None:
    machine.run("refresh")
    before = (machine.folder / "run/database/pgpass").read_text()
    (machine.folder / "aws/generate-db-auth-token").unlink()
    with pytest.raises(AssertionError):
        machine.run("refresh")
    assert (machine.folder / "run/database/pgpass").read_text() == before
    modes = {path.name: path.stat().st_mode & 0o777 for path in (machine.folder / "run").rglob("*") if path.is_file()}
    assert modes == {"pgpass": 0o400, "credentials.json": 0o400, "config": 0o400}


def test_only_mlflow_gets_keys_and_it_asks_for_new_ones_before_they_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: service for name, service in OVER["services"].items() if "files" in str(service.get("volumes"))}
    assert set(given) == {"mlflow"}
    for name, service in OVER["services"].items():
        if "environment" in service:
            assert service["environment"]["AWS_EC2_METADATA_DISABLED"] == "true", name
    machine.gives("assume-role", keys("first", timedelta(minutes=1)))
    machine.run("refresh")
    config = (machine.folder / "run/files/config").read_text().replace("/run/files", str(machine.folder / "run/files"))
    (machine.folder / "config").write_text(config)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(machine.folder / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    credentials = Session().get_credentials()
    machine.gives("assume-role", keys("second"))
    machine.run("refresh")
    assert credentials.get_frozen_credentials().access_key == "second"


def test_no_service_is_given_the_databases_password_and_all_know_where_tokens_are() -> None:
    for name, service in OVER["services"].items():
        if "image" in service:
            environment = service["environment"]
            assert "./run/database:/run/database:ro" in service["volumes"], name
            assert environment["PGPASSFILE"] == "/run/database/pgpass"
            assert "DATABASE_PASSWORD" not in with_secrets({**environment, "DATABASE_URL": "postgresql://h/d"})


def test_the_system_starts_anew_when_the_bots_token_came_and_only_then(machine: Machine) -> None:
    machine.run("start")
    machine.gives("get-secret-value", "1:token\n")
    machine.run("start")
    machine.run("start")
    up = "compose up --detach --wait --no-build"
    assert machine.asked_of_docker() == [up, f"{up} --force-recreate", up]
    assert (machine.folder / "deploy/secrets/telegram_bot_token").read_text() == "1:token\n"


def test_nothing_that_runs_may_read_the_master_users_secret() -> None:
    for file in ("iam.tf", "host.tf", "user-data.sh.tftpl", "host/start", "host/refresh", "compose.aws.yml"):
        assert "master" not in (PROJECT / "deploy/terraform" / file).read_text()
