"""Watches a running demo: prints what is found unusual, shows a live status, and counts what the stages did."""

import threading
from time import monotonic
from typing import Any

import httpx
from rich.live import Live
from rich.table import Table

from txwatch.alerts.waiting import read_delivery_levels
from txwatch.clock import utc_now
from txwatch.queries.drift import list_drift
from txwatch.queries.status import Status, read_status
from txwatch.simulator.telegram_phone import LocalPhone
from txwatch.store.database import Connection, connect
from txwatch.store.sql import statement
from txwatch.system.environment import DAGSTER_PORT
from txwatch.system.launch import console

POLL_SECONDS = 1.0
STATUS_EVERY_SECONDS = 30.0
FOUND_PER_POLL = 20

WINDOWS_QUERY = """
query ($keys: [AssetKeyInput!]) {
  assetNodes(assetKeys: $keys) { assetKey { path } partitionStats { numMaterialized } }
}
"""


class DemoWatch:
    """A callable for the supervisor: returns `seconds` after the first live transaction, or when all has ended."""

    def __init__(self, database_url: str, seconds: float | None, local_telegram: str | None = None) -> None:
        self._database_url = database_url
        self._phone = local_telegram and LocalPhone(local_telegram)
        self._seconds = seconds
        self._began_at = utc_now()
        self._began = monotonic()
        self._first_live: float | None = None
        self._windows = {"transactions": 0, "transaction_scores": 0}
        self._found_through = self._began_at

    def __call__(self, ended: threading.Event) -> None:
        """Watch until the time is over. A database that is away for a moment is asked again."""
        next_line = monotonic()
        with connect(self._database_url, application="txwatch demo") as connection, self._status_line() as live:
            while not (ended.wait(POLL_SECONDS) or self._is_over()):
                self._note_first_live(connection)
                self._print_found(connection)
                if self._phone:
                    for message in self._phone.new():
                        console.print(message)
                if console.is_terminal or monotonic() >= next_line:
                    next_line = monotonic() + STATUS_EVERY_SECONDS
                    self._show(live, read_status(connection, utc_now(), self._began_at))
            self._windows |= materialized_windows(list(self._windows))

    def result(self) -> dict[str, Any]:
        """What the run came to, once all processes have ended."""
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
        }

    def every_stage_worked(self, result: dict[str, Any]) -> bool:
        """Whether live transactions were landed, their windows sealed and scored, alerts sent, and drift reported."""
        stages = ("transactions", "windows_sealed", "windows_scored", "live_windows_scored", "anomalies", "alerts_sent")
        worked = self._first_live is not None and all(result[stage] > 0 for stage in stages)
        return worked and result["drift_share"] is not None

    def _is_over(self) -> bool:
        return (
            self._seconds is not None
            and self._first_live is not None
            and monotonic() - self._first_live >= self._seconds
        )

    def _note_first_live(self, connection: Connection) -> None:
        if (
            self._first_live is None
            and connection.execute(
                "SELECT 1 FROM transactions WHERE source = 'feed' AND seen_at >= %s LIMIT 1", [self._began_at]
            ).fetchone()
        ):
            self._first_live = monotonic()
            console.print(f"First live transaction {monotonic() - self._began:.0f} s after the start.")

    def _print_found(self, connection: Connection) -> None:
        rows = connection.execute(
            statement(__file__, "found"), {"after": self._found_through, "limit": FOUND_PER_POLL}
        ).fetchall()
        for txid, seen_at, score, text, scored_at in rows:
            self._found_through = max(self._found_through, scored_at)
            console.print(f"[bold]unusual[/bold] {seen_at:%H:%M:%S} {txid[:16]}… {score:.3f}  {text}", soft_wrap=True)

    def _status_line(self) -> Live:
        return Live(console=console, refresh_per_second=4, auto_refresh=console.is_terminal, transient=True)

    def _show(self, live: Live, status: Status) -> None:
        facts = {
            "transactions": f"{status.transactions:,}",
            "live": f"{status.live_transactions:,}",
            "landing p50/p99": f"{status.landing_latency_ms['p50']}/{status.landing_latency_ms['p99']} ms",
            "quarantined": str(status.quarantined),
            "windows scored": str(status.windows_scored),
            "unusual": str(status.anomalies),
            "model": status.model_version or "not yet",
            "ingest": status.ingest,
        }
        if not console.is_terminal:
            console.print("  ".join(f"{name} {value}" for name, value in facts.items()), soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            table.add_row(f"[dim]{name}[/dim]", value)
        live.update(table)


def materialized_windows(assets: list[str]) -> dict[str, int]:
    """How many windows of each asset Dagster has recorded, from its own API."""
    answer = httpx.post(
        f"http://127.0.0.1:{DAGSTER_PORT}/graphql",
        json={"query": WINDOWS_QUERY, "variables": {"keys": [{"path": [asset]} for asset in assets]}},
        timeout=30,
    )
    nodes = answer.raise_for_status().json()["data"]["assetNodes"]
    return {node["assetKey"]["path"][0]: node["partitionStats"]["numMaterialized"] for node in nodes}
