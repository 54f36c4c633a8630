"""Quiet hours: a span of every day, in the time of a place, in which all but critical alerts wait."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

_QUIET_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})(?:\s+(\S+))?")


@dataclass(frozen=True)
class QuietHours:
    """From a time of day to another, which may be on the next day."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `22:00-07:00 Europe/Berlin`; UTC without a zone. Raises ValueError, whose text is for a person."""
        match = _QUIET_HOURS.fullmatch(text.strip())
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
        """When the quiet hours that contain this moment end, UTC; None outside of them."""
        local = now.astimezone(self.zone)
        for day in (local.date() - timedelta(days=1), local.date()):
            # Local time decides, also on days on which clocks change.
            begin = datetime.combine(day, self.begin, self.zone)
            last = day if self.begin < self.end else day + timedelta(days=1)
            end = datetime.combine(last, self.end, self.zone)
            if begin.astimezone(UTC) <= now < end.astimezone(UTC):
                return end.astimezone(UTC)
        return None

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.zone.key}"
