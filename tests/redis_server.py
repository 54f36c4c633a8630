"""A real Redis on loopback."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Its URL. Skips the test where there is none to start."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("w") as log, subprocess.Popen([program, *options], stdout=log) as process:
        try:
            answers(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def answers(port: int) -> None:
    """Return when the server takes commands."""
    from redis import Redis
    from redis.backoff import ConstantBackoff
    from redis.exceptions import ConnectionError as NoConnection
    from redis.retry import Retry

    with Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200), retry_on_error=[NoConnection]) as client:
        assert client.ping()
