"""What stands on top of every page: whether its figures are of this moment."""

import streamlit as st

from txwatch.dashboard.look import clock, span
from txwatch.queries.overview import Overview

STALE_AFTER = 30.0
"""Seconds without anything committed; a working system commits four times a second."""


def freshness(overview: Overview) -> None:
    """Say when the data is stale, and what to do."""
    lag = overview.lag_seconds
    if overview.lease is None:
        st.warning("No worker has followed the feed yet. `make demo` or `make run` starts one.")
    elif lag is None or lag > STALE_AFTER or not overview.is_followed:
        since = overview.lease.committed_through or overview.lease.heartbeat_at
        behind = span((overview.at - since).total_seconds())
        st.warning(
            f"This data is stale: nothing came in for {behind}, since {clock(since)} UTC."
            f" The worker was last heard at {clock(overview.lease.heartbeat_at)} UTC."
        )
    else:
        st.caption(f"As of {clock(overview.at)} UTC. Refreshes by itself.")
