"""The API under uvicorn in the test's own process, on a free port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from tests.waiting import PATIENCE_SECONDS
from txwatch.api.app import WEBSOCKETS, create_app
from txwatch.guard import MAX_BODY_BYTES
from txwatch.settings import Settings

KEY = "a-key-for-the-tests-0123456789"
TOKEN = "7001234567:AAHsecretsecretsecretsecretsecretse"


def settings_of(database_url: str, home: Path, **changes: object) -> Settings:
    """Settings as the environment would give them."""
    values = {"TXWATCH_HOME": home, "DATABASE_URL": database_url, "TXWATCH_API_KEY": KEY, "TELEGRAM_BOT_TOKEN": TOKEN}
    # MLflow writes where it works into this variable, which would be another test's registry.
    values["MLFLOW_TRACKING_URI"] = None
    return Settings(_env_file=None, **(values | changes))


@contextmanager
def serving(settings: Settings, max_body_bytes: int = MAX_BODY_BYTES) -> Iterator[str]:
    """The API under uvicorn in this process. Gives its address."""
    config = uvicorn.Config(
        create_app(settings, max_body_bytes),
        port=0,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        **WEBSOCKETS,
    )
    started = threading.Event()

    class Told(uvicorn.Server):
        async def startup(self, sockets: object = None) -> None:
            await super().startup(sockets)  # type: ignore[arg-type]
            started.set()

    server = Told(config)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS), "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
