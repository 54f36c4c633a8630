"""The dashboard under Streamlit, behind the guard. Streamlit runs this file too, to show the pages."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from txwatch.dashboard.palette import CSS, GROUND, INK, LINK, PAPER, PRIMARY, SERIES
from txwatch.guard import Guard
from txwatch.settings import Settings


def _theme(name: str, place: int) -> dict[str, str]:
    """The colours of a theme. Without a base the browser's preference decides between the two, or the page's menu."""
    colours = {"primary": PRIMARY, "background": PAPER, "secondaryBackground": GROUND, "text": INK, "link": LINK}
    return {f"theme.{name}.{of}Color": pair[place] for of, pair in colours.items()}


OPTIONS = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": False,
    # By default pages of Streamlit's own hosting may hold ours in a frame and steer it.
    "client.allowedOrigins": [],
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    # Otherwise a text that stands by itself in this file, to say what the line above is, is shown on every page.
    "runner.magicEnabled": False,
    # Megabytes; Streamlit takes 200 from whoever opens a page.
    "server.maxMessageSize": 16,
    "theme.chartCategoricalColors": SERIES,
    **_theme("light", 0),
    **_theme("dark", 1),
}


OF_A_SPAN = frozenset({"", "unusual", "whales", "models", "feed"})
"""Pages about a time that the visitor chooses. What is open or set up is shown whenever it came."""


def serve_dashboard(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal. Raises MissingSettingError without a database."""
    settings.require_database_url()
    # No page takes files, so that nobody can fill the memory with them.
    guard = Middleware(Guard, hosts=settings.host_names, health="/_stcore/health", max_body_bytes=0)
    app = st.App(Path(__file__), middleware=[guard])
    app.run(config={**OPTIONS, "server.address": host, "server.port": port})


def show_pages() -> None:
    """Show the page that the address names. The libraries of charts are imported when the first one is opened."""
    from txwatch.dashboard.span import choose_span, take_span
    from txwatch.dashboard.views import (
        anomalies,
        cases,
        channels,
        drift,
        feed,
        models,
        now,
        rules,
        search,
        transaction,
        whales,
    )

    st.set_page_config(page_title="txwatch", page_icon="🔎", layout="wide")
    st.html(CSS)
    found = st.Page(search.page, title="Search", url_path="search", visibility="hidden")
    one = st.Page(transaction.page, title="Transaction", url_path="transaction", visibility="hidden")
    page = st.navigation(
        [
            st.Page(now.page, title="Now", default=True),
            st.Page(anomalies.page, title="Unusual", url_path="unusual"),
            st.Page(whales.page, title="Whales", url_path="whales"),
            st.Page(cases.page, title="Cases", url_path="cases"),
            st.Page(rules.page, title="Rules", url_path="rules"),
            st.Page(channels.page, title="Channels", url_path="channels"),
            st.Page(models.page, title="Models", url_path="models"),
            st.Page(drift.page, title="Drift", url_path="drift"),
            st.Page(feed.page, title="Feed", url_path="feed"),
            found,
            one,
        ],
        position="top",
    )
    take_span()
    with st.container(horizontal=True, vertical_alignment="center"):
        search.ask_for(found, one)
        if page.url_path in OF_A_SPAN:
            choose_span()
    page.run()


if __name__ == "__main__":
    show_pages()
