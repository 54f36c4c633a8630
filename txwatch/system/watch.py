"""Show on the terminal the progress of the system, and what it finds unusual."""

import threading
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import Any

import httpx
import psutil
import psycopg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from txwatch.alerts.deliveries import read_delivery_levels
from txwatch.clock import utc_now
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import MIN_ROWS
from txwatch.lab.simulator.telegram_server import LocalPhone
from txwatch.logs import Redaction, secrets_of
from txwatch.queries.models import list_drift
from txwatch.queries.status import read_status
from txwatch.settings import Settings
from txwatch.store.database import Connection, connect, statement
from txwatch.system.environment import DAGSTER_PORT
from txwatch.system.history import HistoryError, SimulatedHistory

console = Console(stderr=True, highlight=False)
"""For people. Standard output is kept for results."""


@dataclass
class Milestones:
    """Seconds from the start of the command; None for what has not happened yet."""

    first_live_s: float | None = None
    first_alert_s: float | None = None
    first_model_s: float | None = None


class Bars(Progress):
    """Bars for history, windows, model and live traffic since `began_at` (UTC), below the messages of a terminal."""

    def __init__(
        self, history: SimulatedHistory | None, milestones: Milestones, began_at: datetime, on: Console = console
    ) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        super().__init__(*columns, console=on, transient=True, disable=not on.is_terminal)
        self._history, self._milestones, self._began_at = history, milestones, began_at
        names = ["history"] * (history is not None) + ["windows", "model", "live"]
        self._ids = {name: self.add_task(name, total=1, text="waits") for name in names}

    def show(self, connection: Connection) -> None:
        if self.disable:
            return
        if self._history is not None:
            landed, expected = self._history.landed, self._history.expected
            self._set("history", landed, expected, f"{landed:,} transactions" if landed else "waits for the feed")
        row = connection.execute(statement("system", "progress"), {"since": self._began_at}).fetchone()
        rows, featured, sealed, live, lag = row or (0, 0, 0, 0, None)
        self._set("windows", featured, sealed, f"{featured} of {sealed} have features")
        if self._milestones.first_model_s is None:
            self._set("model", min(rows, MIN_ROWS), MIN_ROWS, f"{rows:,} of {MIN_ROWS:,} transactions to learn from")
        else:
            self._set("model", 1, 1, f"since {self._milestones.first_model_s:.0f} s after the start")
        if live:
            self._set("live", 1, 1, f"{live:,} transactions" + (f", landed within {lag:.0f} ms" if lag else ""))

    def _set(self, name: str, done: float, total: float, text: str) -> None:
        self.update(self._ids[name], completed=done, total=max(total, 1), text=text)


POLL_SECONDS = 1.0
STATUS_EVERY_SECONDS = 30.0
FOUND_PER_POLL = 20

WINDOWS_QUERY = """
query ($keys: [AssetKeyInput!]) {
  assetNodes(assetKeys: $keys) { assetKey { path } partitionStats { numMaterialized } }
}
"""


class Watch:
    """A callable for the supervisor: shows, and returns `seconds` after the first live transaction, or at the end.

    Meanwhile `history` is landed, if given. `began_at` (UTC) is the start of this process, if not given.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        seconds: float | None = None,
        local_telegram: str | None = None,
        history: SimulatedHistory | None = None,
        began_at: datetime | None = None,
    ) -> None:
        self.milestones = Milestones()
        self._database_url = database_url
        self._redact = Redaction(secrets_of(settings)).text
        self._registry = ModelRegistry.of(settings.home, database_url, settings.mlflow_tracking_uri)
        self._phone = local_telegram and LocalPhone(local_telegram)
        self._seconds = inf if seconds is None else seconds
        self._ends_at = inf
        self._history = history
        self._began_at = began_at or datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        self._windows = {"transactions": 0, "transaction_scores": 0}
        self._found_through = self._began_at

    def __call__(self, ended: threading.Event) -> None:
        """Watch until the time is over; what is away is asked again. Raises HistoryError."""
        next_line, said = monotonic() + STATUS_EVERY_SECONDS, ""
        landing = nullcontext() if self._history is None else self._history.landing()
        with landing, Bars(self._history, self.milestones, self._began_at) as bars:
            while not ended.wait(POLL_SECONDS) and monotonic() < self._ends_at:
                try:
                    with connect(self._database_url, application="txwatch watch") as connection:
                        while monotonic() < self._ends_at:
                            self._look(connection)
                            bars.show(connection)
                            if not console.is_terminal and monotonic() >= next_line:
                                next_line = monotonic() + STATUS_EVERY_SECONDS
                                console.print(self._line(connection), soft_wrap=True)
                            if ended.wait(POLL_SECONDS):
                                return
                except HistoryError:
                    raise
                except psycopg.OperationalError:
                    continue
                except Exception as error:  # such as of a registry that is away: the system works without this display
                    if (words := self._redact(f"Not shown just now: {error}")) != said:
                        said = words
                        console.print(said, soft_wrap=True, markup=False)
            if self._seconds < inf and not ended.is_set():
                self._count_windows()

    def result(self) -> dict[str, Any]:
        """The figures of the run, once all processes have ended."""
        with connect(self._database_url) as connection:
            status = read_status(connection, utc_now(), self._began_at)
            delivery = read_delivery_levels(connection, self._began_at)
            drift = list_drift(connection, limit=1).items
        return {
            "transactions": status.transactions,
            "quarantined": status.quarantined,
            "windows_sealed": self._windows["transactions"],
            "windows_scored": self._windows["transaction_scores"],
            "live_windows_scored": status.live_windows_scored,
            "anomalies": status.anomalies,
            "alerts_sent": delivery.sent + delivery.digested,
            "alerts_pending": delivery.pending,
            "landing_latency_ms": status.landing_latency_ms,
            "alert_latency_ms": {"p50": delivery.latency_ms_p50, "p99": delivery.latency_ms_p99},
            "model_version": status.model_version,
            "drift_share": drift[0].share if drift else None,
            **asdict(self.milestones),
        }

    def idle_stages(self, result: dict[str, Any]) -> list[str]:
        """The figures of the stages that did nothing; a demo that ran long enough has none."""
        stages = ("transactions", "windows_sealed", "windows_scored", "live_windows_scored", "anomalies", "alerts_sent")
        idle = [stage for stage in stages if not result[stage]]
        return idle + [figure for figure in ("first_live_s", "drift_share") if result[figure] is None]

    def _count_windows(self) -> None:
        try:
            self._windows |= materialized_windows(list(self._windows))
        except httpx.HTTPError as error:  # on a machine so slow that it has not started within all that time
            console.print(f"Dagster does not say which windows it has: {error}.", soft_wrap=True, markup=False)

    def _look(self, connection: Connection) -> None:
        if self._history is not None:
            self._history.raise_if_it_failed()
        self._note_milestones(connection)
        self._print_found(connection)
        for message in self._phone.new() if self._phone else []:
            console.print(message)

    def _note_milestones(self, connection: Connection) -> None:
        reached = self.milestones
        if reached.first_live_s is None:
            row = connection.execute(
                "SELECT seen_at, landed_at FROM transactions WHERE source = 'feed' AND seen_at >= %s"
                " ORDER BY seen_at LIMIT 1",
                [self._began_at],
            ).fetchone()
            if row is not None:
                self._ends_at = monotonic() + self._seconds
                reached.first_live_s = self._since_the_start(row[1])
                console.print(f"First live transaction {reached.first_live_s:.0f} s after the start.")
                if self._history is not None:
                    self._history.land_until(row[0])
        if reached.first_alert_s is None:
            row = connection.execute(statement("system", "first_alert"), {"since": self._began_at}).fetchone()
            if row is not None and row[0] is not None:
                reached.first_alert_s = self._since_the_start(row[0])
                console.print(f"First alert {reached.first_alert_s:.0f} s after the start.")
        if reached.first_model_s is None and (version := self._registry.champion_version()) is not None:
            reached.first_model_s = self._since_the_start(utc_now())
            console.print(f"Model version {version} scores, {reached.first_model_s:.0f} s after the start.")

    def _since_the_start(self, at: datetime) -> float:
        return round((at - self._began_at).total_seconds(), 1)

    def _print_found(self, connection: Connection) -> None:
        bounds = {"after": self._found_through, "limit": FOUND_PER_POLL}
        rows = connection.execute(statement("system", "found"), bounds).fetchall()
        for txid, seen_at, score, text, scored_at in rows:
            self._found_through = max(self._found_through, scored_at)
            console.print(
                f"[bold]unusual[/bold] {seen_at:%H:%M:%S} {txid[:16]}… {score:.3f}  {escape(text or '')}",
                soft_wrap=True,
            )

    def _line(self, connection: Connection) -> str:
        status = read_status(connection, utc_now(), self._began_at)
        p50, p99 = status.landing_latency_ms["p50"], status.landing_latency_ms["p99"]
        facts = {
            "transactions": f"{status.transactions:,}",
            "live": f"{status.live_transactions:,}",
            "landing p50/p99": None if p50 is None else f"{p50:.0f}/{p99:.0f} ms",
            "quarantined": status.quarantined,
            "windows scored": status.windows_scored,
            "model": status.model_version,
            "ingest": status.ingest,
        }
        return "  ".join(f"{name} {value}" for name, value in facts.items() if value)


def materialized_windows(assets: list[str]) -> dict[str, int]:
    """How many windows of each asset Dagster has recorded, by its API."""
    answer = httpx.post(
        f"http://127.0.0.1:{DAGSTER_PORT}/graphql",
        json={"query": WINDOWS_QUERY, "variables": {"keys": [{"path": [asset]} for asset in assets]}},
        timeout=30,
    )
    nodes = answer.raise_for_status().json()["data"]["assetNodes"]
    return {node["assetKey"]["path"][0]: node["partitionStats"]["numMaterialized"] for node in nodes}
