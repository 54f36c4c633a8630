"""What Streamlit runs: the pages and how they are reached."""

import streamlit as st

from txwatch.dashboard.look import CSS
from txwatch.dashboard.views import anomalies, drift, feed, models, now, transaction, whales

st.set_page_config(page_title="txwatch", page_icon="🔎", layout="wide")
st.html(CSS)
st.navigation(
    [
        st.Page(now.page, title="Now", default=True),
        st.Page(anomalies.page, title="Unusual", url_path="unusual"),
        st.Page(whales.page, title="Whales", url_path="whales"),
        st.Page(transaction.page, title="Transaction", url_path="transaction"),
        st.Page(models.page, title="Models", url_path="models"),
        st.Page(drift.page, title="Drift", url_path="drift"),
        st.Page(feed.page, title="Feed", url_path="feed"),
    ],
    position="top",
).run()
