"""A received message as a phone would show it, in the terminal."""

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
