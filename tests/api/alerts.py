"""Alerts as the stream tells them, by number."""

from typing import Any

from txwatch.alerts.alert import Alert
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason


def alert(n: int, text: str = "600.00 BTC likely moved\nevent: forged", **changes: Any) -> Alert:
    """The alert of transaction `n`, raised now."""
    now = utc_now()
    values: dict[str, Any] = {
        "alert_key": f"{n:064x}",
        "kinds": ["whale"],
        "severity": Severity.high,
        "reasons": [Reason("whale", text, "moved_sat", 6e10)],
        "late": False,
        "seen_at": now,
        "created_at": now,
    }
    return Alert(**(values | changes))
