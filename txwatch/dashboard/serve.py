"""Runs the dashboard under Streamlit, behind the guard."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from txwatch.dashboard.look import ACCENT, GROUND, INK, PAPER
from txwatch.guard import Guard
from txwatch.settings import Settings

OPTIONS = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    # By default pages of Streamlit's own hosting may hold ours in a frame and steer it.
    "client.allowedOrigins": [],
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "theme.base": "light",
    "theme.primaryColor": ACCENT,
    "theme.backgroundColor": PAPER,
    "theme.secondaryBackgroundColor": GROUND,
    "theme.textColor": INK,
}


def serve_dashboard(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal. Raises MissingSettingError without a database."""
    settings.require_database_url()
    guard = Middleware(Guard, hosts=settings.host_names, health="/_stcore/health")
    app = st.App(Path(__file__).with_name("app.py"), middleware=[guard])
    app.run(config={**OPTIONS, "server.address": host, "server.port": port})
