"""What a command writes in a terminal becomes a picture that moves; the pictures of the pages are small and shown."""

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pictures.terminal import COLUMNS, Terminal, animated, frames
from tests.waiting import PATIENCE_SECONDS

IMAGES = Path(__file__).parents[1] / "docs/images"
MOST_BYTES = 1_500_000
WRITES = r"""
print("\x1b[1mbold\x1b[0m and \x1b[32mgreen\x1b[0m")
print("a whale \N{WHALE} & <b>")
print("bar 1", end="\r")
print("bar 2")
"""


def text(frame: tuple[tuple[object, ...], ...]) -> list[str]:
    return [" ".join(run.text for run in line) for line in frame if line]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def written() -> list[tuple[float, bytes]]:
    with Terminal([sys.executable, "-c", WRITES], {**os.environ, "PYTHONUTF8": "1"}) as terminal:
        assert terminal.ends_within(PATIENCE_SECONDS)
    assert terminal.has_written("green")
    return terminal.written


def test_a_screen_holds_what_stands_there_at_last(written: list[tuple[float, bytes]]) -> None:
    (shown,) = frames([(0.0, b"".join(data for _, data in written))], until=1, every=1, shown=1, news=1)
    assert text(shown.lines) == ["bold and green", "a whale \N{WHALE} & <b>", "bar 2"]
    bold, _, green = shown.lines[0]
    assert (bold.bold, bold.column, green.column) == (True, 0, 9)
    assert green.color != bold.color
    assert shown.lines[1][0].width == len("a whale x & <b>") + 1, "the whale is two columns wide"


def test_there_is_a_frame_for_each_stretch_in_which_something_changed() -> None:
    chunks = [(0.1, b"one\r\n"), (0.2, b"two\r\n"), (1.5, b""), (2.5, b"three\r\n"), (9.0, b"too late")]
    shown = frames(chunks, until=5, every=1, shown=0.2, news=1.5)
    assert [text(frame.lines) for frame in shown] == [["one", "two"], ["one", "two", "three"]]
    many = frames([*chunks, (4.0, b"a\r\nb\r\nc\r\nd\r\ne\r\n")], until=5, every=1, shown=0.2, news=1.5)
    assert [frame.seconds for frame in many] == [0.2, 0.2, 1.5]


def test_the_picture_is_an_svg_that_shows_each_frame_for_its_time_and_the_last_one_to_who_wants_rest() -> None:
    shown = frames([(0.0, b"<one>"), (1.0, b" two & more")], until=5, every=1, shown=1, news=1)
    picture = animated(shown, "a title")
    root = ElementTree.fromstring(picture)  # noqa: S314  # it was just made here
    assert "".join(root.itertext()).count("<one>") == 2
    assert re.findall(r"([\d.]+)%\{transform:translateY\((-?\d+)px\)\}", picture)[1][0] == "50.000"
    assert "animation:play 2.0s" in picture
    assert re.search(r"prefers-reduced-motion:reduce\)\{#play\{animation:none;transform:translateY\(-\d+px\)", picture)
    lengths = [float(one) for one in re.findall(r'textLength="([\d.]+)"', picture)]
    assert max(lengths) < COLUMNS * 9


def test_every_picture_is_small_and_shown_on_a_page() -> None:
    pages = "".join(page.read_text() for page in [IMAGES.parents[1] / "README.md", *IMAGES.parent.rglob("*.md")])
    for picture in IMAGES.iterdir():
        assert picture.stat().st_size < MOST_BYTES, picture.name
        assert picture.name == "README.md" or picture.name in pages, picture.name


def test_the_moving_picture_names_nothing_of_the_machine_that_made_it() -> None:
    picture = (IMAGES / "demo.svg").read_text()
    assert "make demo" in picture
    assert re.findall(r"/(?:tmp|home|root|work)/", picture) == []
