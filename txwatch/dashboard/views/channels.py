"""Channels: where alerts go, how each stands, and a test message. Who gets alerts is private, so this needs a key."""

from typing import Any

import streamlit as st

from txwatch.dashboard import look
from txwatch.dashboard.own_key import call, own_key

ADD = "`txwatch channels add NAME URL` adds a webhook or a service; chats come from TELEGRAM_CHAT_ID."
ACTIONS = {"send a test message": "test", "enable": "enable", "disable": "disable"}


def page() -> None:
    """The table, and what can be done with one."""
    st.title("Channels")
    key = own_key()
    if not key:
        st.html(look.empty("Who gets alerts is private: give a key with the scope manage."))
        return
    found = call("GET", "/v1/channels", key)
    if found is None:
        return
    if not found:
        st.html(look.empty("No channel."))
    else:
        columns = ["channel", "leads to", "state", "gets", "sent", "waiting", "uncertain", "dead", "last sent"]
        st.html(look.table(columns, list(map(_row, found)), (4, 5, 6, 7)))
        _act(key, [one["channel"] for one in found])
    st.caption(ADD)


def _row(channel: dict[str, Any]) -> list[str]:
    state = channel["state"] if channel["refusal"] is None else f"{channel['state']}: {channel['refusal']}"
    gets = [
        *([f"from {channel['min_severity']} on"] if channel["min_severity"] else []),
        *(channel["kinds"] or []),
        *([f"quiet {channel['quiet_hours']}"] if channel["quiet_hours"] else []),
        *(["in digests"] if channel["digest_every"] else []),
    ]
    counts = [look.count(channel[name]) for name in ("sent", "waiting", "uncertain", "dead")]
    return [
        channel["channel"],
        channel["shown_as"] or channel["kind"],
        state,
        ", ".join(gets) or "everything",
        *counts,
        (channel["last_sent_at"] or "")[:19].replace("T", " "),
    ]


def _act(key: str, names: list[str]) -> None:
    with st.form("act"):
        name = st.selectbox("Channel", names)
        action = st.radio("Do", list(ACTIONS), horizontal=True)
        if not st.form_submit_button("Do it"):
            return
        done = call("POST", f"/v1/channels/{name}/{ACTIONS[action]}", key)
    if done is None:
        return
    if "arrived" in done:
        (st.success if done["arrived"] else st.error)("It arrived." if done["arrived"] else str(done["reason"]))
    else:
        st.success(f"{done['channel']} is {done['state']}.")
