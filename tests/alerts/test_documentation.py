"""docs/alerts.md says what the code does."""

from pathlib import Path

from txwatch.alerts.alert import LATE_AFTER
from txwatch.alerts.commands import ANSWERS
from txwatch.alerts.planning import BURST, DIGEST_EVERY, FLOOD_WINDOW
from txwatch.detection.kinds import KINDS
from txwatch.store.schema import alert_deliveries

PAGE = (Path(__file__).parents[2] / "docs/alerts.md").read_text()


def test_the_table_of_kinds_is_that_of_the_code() -> None:
    for name, kind in KINDS.items():
        alerts, alone = ("yes", f"{kind.alone_per_hour} ") if kind.alerts else ("tag", "")
        row = f"| `{name}` | {kind.symbol} {kind.title} | {kind.severity.name} | {alerts} | {alone}|"
        assert row in PAGE


def test_states_limits_and_commands_are_those_of_the_code() -> None:
    (check,) = [c for c in alert_deliveries.constraints if c.name == "state_is_known"]
    states = str(getattr(check, "sqltext", "")).split("'")[1::2]
    assert len(states) == 6
    assert all(f"| `{state}` |" in PAGE for state in states)
    assert all(command in PAGE for command in ANSWERS if command not in {"/help", "/start"})
    assert f"at most {BURST} alerts in five minutes" in PAGE
    assert (FLOOD_WINDOW.seconds, DIGEST_EVERY.seconds, LATE_AFTER.seconds) == (300, 60, 900)
    assert "at most one a minute" in PAGE
    assert "older than 15 minutes" in PAGE
