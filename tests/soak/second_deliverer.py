"""A deliverer beside the one in the ingest worker: `python -m tests.soak.second_deliverer`, until SIGTERM."""

import asyncio
import signal

from txwatch.alerts.dispatcher import Chats
from txwatch.settings import Settings


async def deliver() -> None:
    """Deliver what waits, as the environment says where."""
    settings = Settings()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Chats.of(settings).dispatcher(settings.require_database_url()) as dispatcher:
        await dispatcher.run(stop)


if __name__ == "__main__":
    asyncio.run(deliver())
