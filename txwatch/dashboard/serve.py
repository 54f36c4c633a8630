"""Runs the dashboard under Streamlit."""

import os
import sys
from pathlib import Path

from txwatch.dashboard.look import ACCENT, GROUND, INK, PAPER
from txwatch.settings import Settings

OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "theme.base": "light",
    "theme.primaryColor": ACCENT,
    "theme.backgroundColor": PAPER,
    "theme.secondaryBackgroundColor": GROUND,
    "theme.textColor": INK,
}


def serve_dashboard(settings: Settings, host: str, port: int) -> None:
    """Become the Streamlit server. Raises MissingSettingError without a database."""
    settings.require_database_url()
    where = {"server.address": host, "server.port": str(port)}
    options = [f"--{name}={value}" for name, value in {**OPTIONS, **where}.items()]
    app = str(Path(__file__).with_name("app.py"))
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", app, *options])  # noqa: S606 - our own command
