"""Quiet hours of a chat: a stretch of each day, in the chat's own time zone, in which only critical alerts are sent."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

_FORM = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})(?:\s+(\S+))?")


@dataclass(frozen=True)
class QuietHours:
    """From a time of day to another, which may be past midnight."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `22:00-07:00 Europe/Berlin`; without a zone it is UTC. Raises ValueError, in words for a person."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError("quiet hours look like 22:00-07:00 Europe/Berlin")
        hours = [int(part) for part in match.groups()[:4]]
        try:
            begin, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        except ValueError:
            raise ValueError("a time of day lies between 00:00 and 23:59") from None
        if begin == end:
            raise ValueError("quiet hours that last the whole day would keep everything back")
        try:
            return cls(begin, end, ZoneInfo(match.group(5) or "UTC"))
        except (OSError, ValueError, KeyError):
            raise ValueError(f"no time zone named {match.group(5)}; one is Europe/Berlin") from None

    def until(self, now: datetime) -> datetime | None:
        """When the quiet hours end that hold this moment, UTC; None outside of them."""
        local = now.astimezone(self.zone)
        for day in (local.date() - timedelta(days=1), local.date()):
            # The wall's clock decides, also on the days on which it is put forward or back.
            begin = datetime.combine(day, self.begin, self.zone)
            last = day if self.begin < self.end else day + timedelta(days=1)
            end = datetime.combine(last, self.end, self.zone)
            if begin.astimezone(UTC) <= now < end.astimezone(UTC):
                return end.astimezone(UTC)
        return None

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.zone.key}"
