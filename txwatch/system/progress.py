"""How far a system has come that has just been started: bars on a terminal, below all that is printed meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from txwatch.detection.training import MIN_ROWS
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.system.history import SimulatedHistory

console = Console(stderr=True, highlight=False)
"""For people. Standard output is kept for results."""


@dataclass
class Milestones:
    """Seconds after the start of the command, None for what has not come yet."""

    first_live_s: float | None = None
    first_alert_s: float | None = None
    first_model_s: float | None = None


@contextmanager
def shown(
    history: SimulatedHistory | None, milestones: Milestones, began_at: datetime, on: Console = console
) -> Iterator["Bars"]:
    """The bars for the block, of a system that was started at `began_at` (UTC). They go at its end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as progress:
        yield Bars(progress, history, milestones, began_at)


class Bars:
    """What is being done, as bars below the messages: history, windows, model, live traffic. On a terminal only."""

    def __init__(
        self, progress: Progress, history: SimulatedHistory | None, milestones: Milestones, began_at: datetime
    ) -> None:
        self._progress, self._history, self._milestones, self._began_at = progress, history, milestones, began_at
        self._tasks: dict[str, TaskID] = {
            name: progress.add_task(name, total=1, text="waits")
            for name in (*(() if history is None else ("history",)), "windows", "model", "live")
        }

    def show(self, connection: Connection) -> None:
        """Look how far everything has come."""
        if self._progress.disable:
            return
        if self._history is not None:
            landed, expected = self._history.landed, self._history.expected
            self._set("history", landed, expected, f"{landed:,} transactions" if landed else "waits for the feed")
        row = connection.execute(statement(__file__, "progress"), {"since": self._began_at}).fetchone()
        rows, featured, sealed, live, lag = row or (0, 0, 0, 0, None)
        self._set("windows", featured, sealed, f"{featured} of {sealed} have features")
        if self._milestones.first_model_s is None:
            self._set("model", min(rows, MIN_ROWS), MIN_ROWS, f"{rows:,} of {MIN_ROWS:,} transactions to learn from")
        else:
            self._set("model", 1, 1, f"since {self._milestones.first_model_s:.0f} s after the start")
        if live:
            self._set("live", 1, 1, f"{live:,} transactions" + (f", landed within {lag:.0f} ms" if lag else ""))

    def _set(self, name: str, done: float, total: float, text: str) -> None:
        self._progress.update(self._tasks[name], completed=done, total=max(total, 1), text=text)
