"""The API is held to its own description by schemathesis: no server error, and every answer as described."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.builders import transaction
from tests.leases import heartbeats
from tests.populated import Populated
from tests.serving import KEY
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import utc_now
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def at_work(populated: Populated) -> Iterator[None]:
    """As if a worker was following the feed, so that the system is ready however long it takes."""
    until = utc_now() + 2 * timedelta(seconds=PATIENCE_SECONDS)
    with connect(populated.database_url) as connection:
        (before,) = connection.execute("SELECT heartbeat_at FROM ingest_lease").fetchone() or (None,)
        with connection.transaction():
            land_transactions(connection, [transaction(txid="ab" * 32, seen_at=until)])
        with heartbeats(populated.database_url):
            yield
        connection.execute("UPDATE ingest_lease SET heartbeat_at = %s, committed_through = %s", [before, before])
        connection.execute("DELETE FROM transactions WHERE txid = %s", ["ab" * 32])
        connection.execute("DELETE FROM channels WHERE kind <> 'telegram'")


@pytest.mark.usefixtures("at_work")
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_schemathesis_finds_nothing(address: str, populated: Populated, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    options = [
        f"--config-file={CONFIGURATION}",
        "run",
        f"{address}/openapi.json",
        "--header",
        f"Authorization: Bearer {KEY}",
        # It has no end, and tests of its own.
        "--exclude-path=/v1/stream",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=20",
        # Feast is imported beside the requests, which wait for it on a busy machine.
        "--request-timeout=120",
        "--seed=1",
        "--no-color",
    ]
    try:
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    finally:
        # It promoted what it liked.
        path = f"{address}/v1/models/{populated.champion}/promote"
        httpx.post(path, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_SECONDS).raise_for_status()
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
