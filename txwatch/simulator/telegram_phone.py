"""A received message as a phone would show it, in the terminal."""

import httpx
import msgspec
from rich.box import ROUNDED
from rich.panel import Panel
from rich.text import Text

from txwatch.simulator.telegram import ReceivedMessage

WIDTH = 48
"""About the characters in a line of a phone."""


def phone(message: ReceivedMessage) -> Panel:
    """The text without its markup, the buttons below it, and when it came; silent ones and edits say so."""
    body = Text(message.text)
    if message.buttons:
        body.append("\n\n" + "  ".join(f"[ {label} ]" for label, _ in message.buttons), style="bold")
    notes = [f"{message.edited_at or message.at:%H:%M:%S}"]
    notes += ["edited"] if message.edited_at else []
    notes += ["without sound"] if message.silent else []
    return Panel(
        body,
        box=ROUNDED,
        width=WIDTH,
        title=f"Telegram · chat {message.chat_id}",
        title_align="left",
        subtitle=" · ".join(notes),
        subtitle_align="right",
    )


class LocalPhone:
    """Asks a local Telegram in another process for what came since the last time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = 0

    def new(self) -> list[Panel]:
        """The new messages as a phone shows them; none while the server cannot be reached."""
        try:
            answer = httpx.get(f"{self._url}/received", params={"after": self._seen}, timeout=5)
        except httpx.HTTPError:
            return []
        messages = msgspec.json.decode(answer.content, type=list[ReceivedMessage])
        self._seen += len(messages)
        return [phone(message) for message in messages]
