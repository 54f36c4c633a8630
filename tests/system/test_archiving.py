"""docs/operations.md, typed: the log is received elsewhere, the server is killed, and a moment is restored."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.deploy.compose import PROJECT
from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.store.cluster import embedded_postgres, server_program

SLOT = "SELECT active FROM pg_replication_slots WHERE slot_name = 'txwatch_archive'"


def documented() -> list[str]:
    """The blocks of lines of the section, in their order."""
    text = (PROJECT / "docs/operations.md").read_text()
    section = re.search(r"^### Continuous archiving\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    return re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


class Shell:
    """Types lines as the user that the server runs as, with /srv/txwatch in a folder of the test."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        # The embedded server of root belongs to a user of its own.
        self.user = (home / "postgres").owner() if os.geteuid() == 0 else None
        self.archive = home / "archive"
        (self.archive / "wal").mkdir(parents=True)
        for folder in (self.archive, self.archive / "wal"):
            if self.user is not None:
                shutil.chown(folder, self.user)

    @property
    def url(self) -> str:
        return f"postgresql://postgres:@/postgres?host={self.home / 'postgres'}&port={self.port}"

    def environment(self) -> dict[str, str]:
        programs = server_program("pg_ctl").parent
        return {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": str(self.home / "postgres"),
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
        }

    def open(self, lines: str, **variables: str) -> subprocess.Popen[str]:
        typed = lines.replace("/srv/txwatch", str(self.archive))
        return subprocess.Popen(
            ["bash", "-ec", typed], env=self.environment() | variables, user=self.user, cwd=self.archive, text=True,
            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, lines: str, **variables: str) -> None:
        with (self.archive.parent / "typed.log").open("a+") as log:
            process = subprocess.run(
                ["bash", "-ec", lines.replace("/srv/txwatch", str(self.archive))],
                env=self.environment() | variables, user=self.user, cwd=self.archive, stdout=log, stderr=log,
                check=False,
            )  # fmt: skip
            log.seek(0)
            assert process.returncode == 0, log.read()

    def takes(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def served(shell: Shell) -> Iterator[subprocess.Popen[bytes]]:
    """The server that is archived."""
    command = [server_program("postgres"), "-D", shell.home / "postgres"]
    with (
        (shell.home / "server.log").open("w") as log,
        subprocess.Popen(command, user=shell.user, stdout=log, stderr=log) as server,
    ):
        try:
            wait_until(shell.takes, "the server")
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Beside a server that has been made, and does not run."""
    with embedded_postgres(tmp_path / "home"):
        pass
    shell = Shell(tmp_path / "home")
    with (tmp_path / "home/postgres/postgresql.conf").open("a") as configuration:
        configuration.write(
            f"listen_addresses = ''\nunix_socket_directories = '{tmp_path / 'home/postgres'}'\nport = {shell.port}\n"
        )
    return shell


def test_the_documented_lines_restore_what_was_committed_before_a_moment_and_no_more(shell: Shell) -> None:
    receive, base, restore = documented()
    with served(shell) as server:
        with psycopg.connect(shell.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (what text)")
            receiving = shell.open(receive)
            try:
                wait_until(lambda: connection.execute(SLOT).fetchone() == (True,), "the log is received")
                shell.type(base)
                connection.execute("INSERT INTO kept VALUES ('before')")
                [moment] = connection.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
                connection.execute("INSERT INTO kept VALUES ('after')")
                [position] = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone() or ("",)
                flushed = "SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication"
                wait_until(lambda: connection.execute(flushed, [position]).fetchone() == (True,), "it has arrived")
            finally:
                os.killpg(receiving.pid, signal.SIGTERM)
                receiving.communicate()
        server.kill()
        server.wait()
    shell.type(restore, MOMENT=moment)
    try:
        with psycopg.connect(shell.url) as connection:
            assert connection.execute("SELECT what FROM kept").fetchall() == [("before",)]
            wait_until(
                lambda: psycopg.connect(shell.url).execute("SELECT pg_is_in_recovery()").fetchone() == (False,),
                "the end of recovery",
            )
    finally:
        shell.type("pg_ctl --pgdata=/srv/txwatch/restored --mode=immediate stop")
