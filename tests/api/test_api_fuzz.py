"""The API is held to its own description by schemathesis: no server error, and every answer as described."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.builders import transaction
from tests.leases import heartbeats
from tests.populated import Populated
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.clock import utc_now
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def address(own_populated: Populated) -> Iterator[str]:
    """An API that may be asked for anything, ready however long it takes, as if a worker was following the feed."""
    database_url = own_populated.database_url
    until = utc_now() + 2 * timedelta(seconds=PATIENCE_SECONDS)
    with connect(database_url) as connection, connection.transaction():
        land_transactions(connection, [transaction(txid="ab" * 32, seen_at=until)])
    with heartbeats(database_url), serving(settings_of(database_url, own_populated.home)) as url:
        yield url


@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_schemathesis_finds_nothing(address: str, tmp_path: Path) -> None:
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
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
