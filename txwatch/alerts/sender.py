"""Send one message, and say whether it was sent or refused, may be repeated, or is uncertain."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol, Self

import httpx
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)

from txwatch.alerts.transport import CONNECT_SECONDS, Transport, quiet_libraries
from txwatch.channels.outcomes import ChannelRefused, NotSent, Outcome, Refused, Sent, Unknown
from txwatch.foreign import one_line

ANSWER_SECONDS = 15.0
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Errors of httpx before the first byte of a request has left."""
OF_THE_MESSAGE = (
    "can't parse",
    "message is too long",
    "message text is empty",
    "text must be non-empty",
    "entities",
    "button",
    "keyboard",
    "reply_markup",
    "message to edit not found",
    "message can't be edited",
    "message_id_invalid",
    "message_author_required",
)
"""Words of errors about a message that no chat would take. Telegram gives no numbers for this:
https://github.com/tdlib/telegram-bot-api, `Client.cpp`, and https://core.telegram.org/api/errors."""
OF_THE_CHAT = ("chat", "right", "topic", "thread", "peer", "user", "bot ", "member", "admin", "channel", "group")
"""Words of errors about a chat that takes none of the bot's messages."""
Buttons = Sequence[tuple[str, str]]
"""Of each button its text, and its callback data: at most 64 bytes."""


class Sender(Protocol):
    """Sends messages in Telegram's HTML and returns their outcome. Raises nothing."""

    async def send(self, chat_id: str, html: str, *, silent: bool = False, buttons: Buttons = ()) -> Outcome:
        """A new message, with a row of buttons."""
        ...

    async def edit(self, chat_id: str, message_id: int, html: str, *, buttons: Buttons = ()) -> Outcome:
        """Another text, and other buttons, for a message that was sent."""
        ...

    async def moved_to(self, chat_id: str) -> str | None:
        """The present id of a chat, None if it is the same or nobody says so. Sends nothing."""
        ...


class TelegramSender:
    """The Bot API at `api_url`. An async context, which closes its connections."""

    def __init__(self, token: str, api_url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        quiet_libraries()
        self._request = Transport(
            connect_timeout=CONNECT_SECONDS,
            pool_timeout=CONNECT_SECONDS,
            read_timeout=answer_seconds,
            write_timeout=answer_seconds,
        )
        self._bot = Bot(token, base_url=f"{api_url.rstrip('/')}/bot", request=self._request)
        self._token = token

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._request.shutdown()

    async def send(self, chat_id: str, html: str, *, silent: bool = False, buttons: Buttons = ()) -> Outcome:
        try:
            message = await self._bot.send_message(
                chat_id,
                html,
                parse_mode=ParseMode.HTML,
                link_preview_options=LinkPreviewOptions(is_disabled=True),
                disable_notification=silent,
                reply_markup=_keyboard(buttons),
            )
            number: object = message.message_id  # the library takes any
            if type(number) is int and 0 <= number < 2**63:
                return Sent(number)
            return Unknown("the answer does not say which message it became")
        except TelegramError as error:
            return self._outcome(error)
        except Exception as error:  # an answer that the library cannot read may still mean "arrived"
            return Unknown(self._words(error))

    async def edit(self, chat_id: str, message_id: int, html: str, *, buttons: Buttons = ()) -> Outcome:
        try:
            await self._bot.edit_message_text(
                html,
                chat_id,
                message_id,
                parse_mode=ParseMode.HTML,
                link_preview_options=LinkPreviewOptions(is_disabled=True),
                reply_markup=_keyboard(buttons),
            )
        except BadRequest as error:
            said = error.message.lower()
            if "not modified" in said:
                return Sent(message_id)
            # Unknown words do not hold up the chat: it has the message already.
            known = any(words in said for words in OF_THE_CHAT)
            return self._outcome(error) if known else Refused(self._words(error))
        except TelegramError as error:
            return self._outcome(error)
        except Exception as error:
            return Unknown(self._words(error))
        return Sent(message_id)

    async def moved_to(self, chat_id: str) -> str | None:
        # Telegram's answer about a member of a group that moved has the new id.
        try:
            await self._bot.get_chat_member(chat_id, int(self._token.partition(":")[0]))
        except ChatMigrated as error:
            return str(error.new_chat_id)
        except Exception:  # any other answer names no other id
            return None
        return None

    def _outcome(self, error: TelegramError) -> Outcome:
        words = self._words(error)
        match error:
            case RetryAfter():
                delay = error.retry_after
                return NotSent(words, delay if isinstance(delay, timedelta) else timedelta(seconds=delay))
            case ChatMigrated():
                # The library's words hold the new id, and everybody may read why a delivery waits.
                return NotSent("the group became a supergroup, with another id", moved_to=str(error.new_chat_id))
            case BadRequest() | Forbidden():
                # Unknown words hold up the chat: it is tried again with a digest, which is another message.
                of_message = any(words in error.message.lower() for words in OF_THE_MESSAGE)
                return Refused(words) if of_message else ChannelRefused(words)
            case InvalidToken() | Conflict():
                # What waits goes out when somebody has acted, such as set the right token.
                return NotSent(words)
            case NetworkError() if isinstance(error.__cause__, UNSENT):
                return NotSent(words)
            case NetworkError() if error.__cause__ is None or isinstance(error.__cause__, TelegramError):
                # There was an answer, such as one of status 5xx.
                return NotSent(words)
        return Unknown(words)

    def _words(self, error: Exception) -> str:
        return one_line(f"{type(error).__name__}: {error}".replace(self._token, "***"))


def _keyboard(buttons: Buttons) -> InlineKeyboardMarkup | None:
    row = [InlineKeyboardButton(text, callback_data=data) for text, data in buttons]
    return InlineKeyboardMarkup([row]) if row else None
