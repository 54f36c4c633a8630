"""Where alerts go: the chats, and the bot that speaks there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.sender import TelegramSender
from txwatch.settings import Settings


@dataclass(frozen=True)
class Chats:
    """Chats and bot. Without chats alerts are raised, and stay visible in the terminal and the database."""

    ids: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    api_url: str = "https://api.telegram.org"

    @classmethod
    def of(cls, settings: Settings) -> "Chats":
        """Those that the settings name."""
        token = settings.telegram_bot_token
        return cls(settings.telegram_chats, token.get_secret_value() if token else "", settings.telegram_api_url)

    @asynccontextmanager
    async def dispatcher(self, database_url: str) -> AsyncIterator[Dispatcher]:
        """What delivers to them, for an `async with` block."""
        async with TelegramSender(self.token, self.api_url) as sender:
            yield Dispatcher(database_url, sender, self.ids)
