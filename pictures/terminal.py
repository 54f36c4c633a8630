"""A command in a terminal, recorded, and played back as an SVG that moves by itself."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from itertools import groupby
from time import monotonic
from typing import NamedTuple, Self

import pyte

COLUMNS, ROWS = 100, 32
COLORS = {
    "default": "#d8dee9",
    "black": "#4c566a",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#eceff4",
}
GROUND = "#1b1f27"
CELL, LINE, MARGIN = 8.4, 18, 14
"""Pixels: the width of a character, the height of a line, and what is left free around all of them."""

LIVELY = 4
"""Lines that change all the time: the bars."""


class Run(NamedTuple):
    """Characters of one look, from a column on."""

    column: int
    width: int
    text: str
    color: str
    bold: bool


@dataclass(frozen=True)
class Frame:
    """The screen for a time, in seconds."""

    seconds: float
    lines: tuple[tuple[Run, ...], ...]


class Terminal:
    """Runs a command in a terminal of its own for the block, and keeps what it writes, with the seconds since then."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.written: list[tuple[float, bytes]] = []
        self._command, self._environment = command, environment

    def __enter__(self) -> Self:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._began = monotonic()
        self._process = subprocess.Popen(
            self._command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**self._environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=[ours])
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._reader.join()

    def ends_within(self, seconds: float) -> bool:
        """Wait for the command's end, so many seconds at most, and say whether it has come."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return monotonic() - self._began

    def has_written(self, text: str) -> bool:
        return text.encode() in b"".join(data for _, data in self.written)

    def _read(self, ours: int) -> None:
        with open(ours, "rb", buffering=0) as output:
            while True:
                try:
                    data = output.read(65536)
                except OSError:  # of a terminal whose last process has ended
                    return
                if not data:
                    return
                self.written.append((self.seconds, data))


def frames(
    written: Iterable[tuple[float, bytes]], *, until: float, every: float, shown: float, news: float
) -> list[Frame]:
    """The screens of a recording, one for each stretch of `every` seconds in which it changed.

    Each is shown for `shown` seconds, and for `news` if more than LIVELY lines are new: there is something to read.
    """
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    found: list[Frame] = []
    for _, stretch in groupby((one for one in written if one[0] <= until), key=lambda one: int(one[0] / every)):
        for _, data in stretch:
            stream.feed(data)
        lines = tuple(_runs(screen, row) for row in range(ROWS))
        if found and lines == found[-1].lines:
            continue
        new = set(lines) - set(found[-1].lines) if found else ()
        found.append(Frame(news if len(new) > LIVELY else shown, lines))
    return found


def _runs(screen: pyte.Screen, row: int) -> tuple[Run, ...]:
    cells = [(column, screen.buffer[row][column]) for column in range(COLUMNS)]
    runs = []
    for (color, bold), group in groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold)):
        same = list(group)
        text = "".join(cell.data for _, cell in same)
        left = len(text) - len(text.lstrip(" "))
        if kept := text.strip(" "):
            # A wide character has an empty cell behind it, so that cells are counted and not characters.
            before = sum(cell.data == " " for _, cell in same[:left])
            width = len(same) - before - (len(text) - len(text.rstrip(" ")))
            runs.append(Run(same[0][0] + before, width, kept, COLORS.get(color, f"#{color}"), bold))
    return tuple(runs)


def animated(shown: Sequence[Frame], title: str) -> str:
    """The frames as an SVG that begins anew after the last one, and shows that alone to who wants nothing to move."""
    height, width = ROWS * LINE + 2 * MARGIN, round(COLUMNS * CELL + 2 * MARGIN)
    names: dict[tuple[Run, ...], str] = {}
    for frame in shown:
        for line in frame.lines:
            if line:
                names.setdefault(line, f"l{len(names)}")
    lines = "\n".join(f'<g id="{name}">{"".join(map(_text, line))}</g>' for line, name in names.items())
    screens = "\n".join(
        f'<g transform="translate({MARGIN} {number * height + MARGIN})">'
        + "".join(f'<use href="#{names[line]}" y="{row * LINE}"/>' for row, line in enumerate(frame.lines) if line)
        + "</g>"
        for number, frame in enumerate(shown)
    )
    whole, passed, steps = sum(frame.seconds for frame in shown), 0.0, []
    for number, frame in enumerate(shown):
        steps.append(f"{100 * passed / whole:.3f}%{{transform:translateY({-number * height}px)}}")
        passed += frame.seconds
    last = f"translateY({-(len(shown) - 1) * height}px)"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>{escape(title)}</title>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}
.b{{font-weight:bold}}
#play{{animation:play {whole:.1f}s step-end infinite}}
@keyframes play{{{"".join(steps)}}}
@media (prefers-reduced-motion:reduce){{#play{{animation:none;transform:{last}}}}}
</style>
<defs>
{lines}
</defs>
<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>
<g id="play">
{screens}
</g>
</svg>
"""


def _text(run: Run) -> str:
    bold = ' class="b"' if run.bold else ""
    # The length keeps columns in line in whatever font there is.
    return (
        f'<text x="{run.column * CELL:.1f}" y="13" fill="{run.color}"{bold} textLength="{run.width * CELL:.1f}"'
        f' lengthAdjust="spacingAndGlyphs" xml:space="preserve">{escape(run.text)}</text>'
    )
