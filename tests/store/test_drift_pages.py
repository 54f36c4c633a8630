"""The pages of drift reports, in a folder and in S3."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.buckets import environment_of, s3_server, using_s3
from txwatch.detection.drift_reports import KEEP_PAGES_FOR, DriftPages
from txwatch.places import Place, S3Object

NOW = datetime(2026, 3, 1, 12, 30, 45, 678_901, tzinfo=UTC)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where the pages are."""
    if request.param == "folder":
        yield tmp_path / "reports"
        return
    with s3_server("reports") as client, using_s3(environment_of(client)):
        yield S3Object("reports", "drift")


def test_a_page_is_found_by_its_moment_until_it_is_forgotten(place: Place) -> None:
    pages = DriftPages(place)
    pages.forget(NOW)
    assert pages.read(NOW) is None
    old = NOW - KEEP_PAGES_FOR - timedelta(days=1)
    for at in (old, NOW):
        page = pages.write(at, f"<p>{at:%d} März</p>")
    assert page == place / "drift-2026-03-01-123045.html"
    others = ["drift-1999-01-01-1200.html.bak", "kept-1999-01-01-1200.html", "drift-1999-01-01-1200.html"]
    for name in others:
        (place / name).write_bytes(b"")
    assert pages.read(old) == "<p>29 März</p>"
    pages.forget(NOW)
    assert pages.read(old) is None
    assert pages.read(NOW) == "<p>01 März</p>"
    assert sorted(one.name for one in place.iterdir()) == sorted([page.name, *others[:2]])


def test_a_moment_of_another_zone_is_the_same_page(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    pages = DriftPages(tmp_path)
    pages.write(NOW, "x")
    assert pages.read(NOW.astimezone(ZoneInfo("Asia/Tokyo"))) == "x"
