"""Channels: where alerts go, Telegram's chats among them. Who gets alerts is private, so this needs a key."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import streamlit as st

from txwatch.dashboard import look
from txwatch.dashboard.own_key import call, own_key

ADD = "`txwatch channels add NAME URL` adds a webhook or a service; chats come from TELEGRAM_CHAT_ID."
MARKS = {"sent": "ok", "digested": "ok", "pending": "unclear", "sending": "unclear"}
"""How the state of a delivery looks; the others need somebody."""


def page() -> None:
    """How each stands; and of one that is chosen the last deliveries, and what can be done."""
    st.title("Channels")
    key = own_key()
    if not key:
        made = "txwatch keys add NAME --scope manage"
        st.html(look.empty(f"Who gets alerts is private, so a key shows it. This makes one, in a terminal: {made}"))
        return
    found = call("GET", "/v1/channels", key)
    if found is None:
        return
    if not found:
        st.html(look.empty("No channel yet."))
        st.caption(ADD)
        return
    listed = st.container()
    names = [one["channel"] for one in found]
    leads = {one["channel"]: _leads_to(one) for one in found}
    name = st.selectbox("Channel", names, key="channel", format_func=lambda name: f"{name} · {leads[name]}")
    one = found[names.index(name)]
    if _act(key, one):
        found = call("GET", "/v1/channels", key) or found
    with listed:
        columns = ["channel", "leads to", "state", "gets", "sent", "waiting", "uncertain", "dead", "last sent"]
        st.html(look.table(columns, list(map(_row, found)), (4, 5, 6, 7)))
        st.caption(ADD)
    st.header(f"Last deliveries to {name}")
    if (deliveries := call("GET", f"{_path(name)}/deliveries", key)) is not None:
        st.html("".join(map(_delivery, deliveries)) or look.empty("It got no alert yet."))


def _path(name: str) -> str:
    return f"/v1/channels/{quote(name, safe='')}"


def _leads_to(channel: dict[str, Any]) -> str:
    return channel["shown_as"] or "Telegram"


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
        _leads_to(channel),
        state,
        ", ".join(gets) or "everything",
        *counts,
        _moment(channel["last_sent_at"]),
    ]


def _act(key: str, one: dict[str, Any]) -> bool:
    """The buttons of a channel. Gives whether something was done."""
    path, other = _path(one["channel"]), "enable" if one["state"] == "off" else "disable"
    with st.container(horizontal=True):
        tries, switches = st.button("Send a test message"), st.button(f"{other.capitalize()} it")
    if tries:
        with st.spinner("Waiting for the answer, half a minute at most"):
            done = call("POST", f"{path}/test", key)
        if done is not None:
            arrived = f"It arrived at {one['channel']}."
            (st.success if done["arrived"] else st.error)(
                arrived if done["arrived"] else look.as_written(str(done["reason"]))
            )
    elif switches:
        done = call("POST", f"{path}/{other}", key)
        if done is not None:
            st.success(f"{done['channel']} is {done['state']}.")
    else:
        return False
    return done is not None


def _delivery(one: dict[str, Any]) -> str:
    head = [
        look.kind_chip(one["kinds"][0], one["severity"]),
        look.case_link(one["alert_key"]),
        f"seen {_moment(one['seen_at'])}",
        f'<span class="{MARKS.get(one["state"], "bad")}">{one["state"]}</span>',
        *([f"at {_moment(one['sent_at'])}"] if one["sent_at"] else []),
        *([f"{one['attempts']} tries"] if one["attempts"] > 1 else []),
    ]
    return look.item(head, one["reason"] or "")


def _moment(text: str | None) -> str:
    return "" if text is None else look.at(datetime.fromisoformat(text))
