"""Changes from a page go through the API, by the visitor's own key: so it is known who made them.

The key stays in this visit's memory, and is sent to the API alone.
"""

from typing import Any

import httpx
import streamlit as st

from txwatch.dashboard.data import settings
from txwatch.dashboard.look import as_written

_FIELD, _KEPT = "api_key", "own_key"
"""Keys of the visit's state: of the field, and of what was typed into it last."""
_SECONDS = 40.0
"""A test message may take half a minute."""


def own_key() -> str:
    """Ask for the key."""
    made = "`txwatch keys add NAME --scope manage` in a terminal makes one; it says who you are."
    state = st.session_state
    # What a field holds is forgotten on a page without it.
    if _FIELD not in state:
        state[_FIELD] = state.get(_KEPT, "")
    state[_KEPT] = st.text_input("Your key", type="password", key=_FIELD, help=made)
    return str(state[_KEPT])


def call(method: str, path: str, key: str, body: object = None) -> Any:
    """What the API answers, or None, and then the page says why."""
    try:
        answer = httpx.request(
            method,
            f"{settings().api_url}{path}",
            json=body,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_SECONDS,
            trust_env=False,  # a proxy of the environment would get the key
        )
        said = answer.json()
    except (httpx.HTTPError, ValueError):  # also what answers in the API's place
        st.error("The API does not answer just now.")
        return None
    if answer.is_success:
        return said
    st.error(as_written(str(said.get("detail", answer.status_code) if isinstance(said, dict) else answer.status_code)))
    return None
