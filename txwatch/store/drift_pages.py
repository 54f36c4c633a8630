"""The pages of drift reports: files of one folder, or objects of one prefix in S3.

A page is found by the moment of its report. No name comes from outside, so none can lead out of the place.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from txwatch.places import NoSuchObjectError, Place, S3Object

KEEP_PAGES_FOR = timedelta(days=30)
_NAME = re.compile(r"drift-(\d{4}-\d{2}-\d{2})-(?:\d{4}|\d{6})\.html")


@dataclass(frozen=True)
class DriftPages:
    """Where the pages are. What goes wrong with a bucket raises ObjectStoreError."""

    place: Place

    @property
    def in_store(self) -> bool:
        """Whether every machine can read them, and so the database need not hold them too."""
        return isinstance(self.place, S3Object)

    def write(self, at: datetime, html: str) -> Place:
        """Keep the page of the report of this moment. Again, it takes the place of the one before."""
        page = self._page(at)
        if isinstance(page, S3Object):
            page.write_bytes(html.encode(), "text/html; charset=utf-8")
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(html, encoding="utf-8")
        return page

    def read(self, at: datetime) -> str | None:
        """The page of the report of this moment, or None if there is none any more."""
        try:
            return self._page(at).read_bytes().decode()
        except (FileNotFoundError, NoSuchObjectError):
            return None

    def forget(self, now: datetime) -> None:
        """Remove the pages older than KEEP_PAGES_FOR by their names; nothing else is touched."""
        if isinstance(self.place, Path) and not self.place.is_dir():
            return
        oldest = f"{(now - KEEP_PAGES_FOR).astimezone(UTC):%Y-%m-%d}"
        for page in self.place.iterdir():
            if (named := _NAME.fullmatch(page.name)) and named[1] < oldest:
                page.unlink()

    def _page(self, at: datetime) -> Place:
        return self.place / f"drift-{at.astimezone(UTC):%Y-%m-%d-%H%M%S}.html"
