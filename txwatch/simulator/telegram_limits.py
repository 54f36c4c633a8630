"""Telegram's limits on messages, counted from what arrives.

https://core.telegram.org/bots/faq: one message a second to a chat, 20 a minute to a group, 30 a second in all.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from txwatch.clock import Clock

ALL = "all chats"


@dataclass
class SlidingWindow:
    """At most `most` in any stretch of `length`."""

    most: int
    length: timedelta
    _arrived: deque[datetime] = field(default_factory=deque)

    def wait(self, now: datetime) -> timedelta:
        """How long until one more is allowed; nothing if it is now."""
        while self._arrived and now - self._arrived[0] >= self.length:
            self._arrived.popleft()
        return self.length - (now - self._arrived[0]) if len(self._arrived) >= self.most else timedelta(0)

    def count(self, now: datetime) -> None:
        """Enter one that was let through."""
        self._arrived.append(now)


@dataclass
class FloodControl:
    """Lets messages through within the limits. `exceeded` counts those that it had to turn away, by limit."""

    clock: Clock
    chat_interval: timedelta = timedelta(seconds=1)
    group_per_minute: int = 20
    overall_per_second: int = 30
    exceeded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._windows: dict[str, SlidingWindow] = {
            ALL: SlidingWindow(self.overall_per_second, timedelta(seconds=1)),
        }

    def retry_after(self, chat_id: str) -> int | None:
        """None when the message is let through, which counts it; else whole seconds to wait."""
        now = self.clock()
        windows = {ALL: self._windows[ALL], "chat": self._window(f"chat {chat_id}", 1, self.chat_interval)}
        if chat_id.startswith(("-", "@")):
            windows["group"] = self._window(f"group {chat_id}", self.group_per_minute, timedelta(minutes=1))
        name, wait = max(((name, window.wait(now)) for name, window in windows.items()), key=lambda named: named[1])
        if wait > timedelta(0):
            self.exceeded[name] = self.exceeded.get(name, 0) + 1
            return max(1, ceil(wait.total_seconds()))
        for window in windows.values():
            window.count(now)
        return None

    def _window(self, key: str, most: int, length: timedelta) -> SlidingWindow:
        return self._windows.setdefault(key, SlidingWindow(most, length))
