"""Telegram and all other channels, for assets, jobs and sensors."""

import asyncio
from collections import Counter
from datetime import timedelta

import dagster as dg
from pydantic import Field

from txwatch.alerts.dispatcher import Chats


class TelegramResource(dg.ConfigurableResource):
    """The chats, and delivery to them and to all other channels. The token comes from the environment, never shown."""

    token: str = Field("", repr=False, description="Token of the bot. Empty: nothing is sent.")
    chats: list[str] = Field(default=[], description="Chats that get the alerts.")
    api_url: str = Field("https://api.telegram.org", description="Telegram's Bot API, or a server that behaves so.")

    webhook_private: bool = Field(False, description="Whether channels may be at private addresses.")

    @property
    def where(self) -> Chats:
        return Chats(tuple(self.chats), self.token, self.api_url, self.webhook_private)

    def deliver(self, database_url: str, patience: timedelta) -> Counter[str]:
        """Deliver what waits, unless a wait would exceed `patience` from now. Returns the count of each outcome."""
        return asyncio.run(self._deliver(database_url, patience))

    async def _deliver(self, database_url: str, patience: timedelta) -> Counter[str]:
        async with self.where.dispatcher(database_url) as dispatcher:
            await dispatcher.drain(patience)
            return dispatcher.delivered
