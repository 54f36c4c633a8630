"""Cases: what people did with alerts, and what is to be done. A change goes through the API, by a person's own key."""

from html import escape
from typing import Any, get_args

import streamlit as st

from txwatch.alerts.alert import is_of_transaction
from txwatch.alerts.cases import ACTIONS
from txwatch.alerts.store import Verdict
from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.dashboard.data import ask
from txwatch.dashboard.look import freshness
from txwatch.dashboard.own_key import call, own_key
from txwatch.dashboard.span import address
from txwatch.queries.cases import Case, CaseEvent, CaseState, list_cases, read_case
from txwatch.queries.status import read_overview
from txwatch.store.database import storable

STATES = ("all", *get_args(CaseState))
SEVERITIES = ("all", "critical", "high", "medium", "low")
SHOWN = 40


def page() -> None:
    """The list, and one case with what can be done with it."""
    st.title("Cases")
    chosen = st.query_params.get("alert", "")
    if chosen:
        _case(chosen)
    else:
        _list()


@st.fragment(run_every=10)
def _list() -> None:
    freshness(ask(read_overview, utc_now()))
    left, right = st.columns(2)
    state = left.pills("State", STATES, default="open") or "all"
    severity = right.pills("Severity", SEVERITIES, default="all") or "all"
    found = ask(
        list_cases,
        state=None if state == "all" else state,
        severity=None if severity == "all" else severity,
        limit=SHOWN,
    )
    if not found.items:
        st.html(look.empty("No case of these. Every alert is one, open until somebody closes it."))
        return
    st.html("".join(map(_item, found.items)))
    if found.next:
        st.caption(f"The newest {SHOWN} are shown; `/v1/export/cases` of the API gives all of them.")


def _item(case: Case) -> str:
    who = [f"with {case.assignee}"] if case.assignee else []
    notes = [f"{case.notes} note{'s' if case.notes > 1 else ''}"] if case.notes else []
    head = [
        look.kind_chip(case.kinds[0], case.severity),
        *map(look.kind_chip, case.kinds[1:]),
        look.case_link(case.alert_key),
        escape(f"{case.seen_at:%d %b %H:%M} UTC"),
        escape(case.severity),
        *([escape(f"{look.amount(case.value_sat, case.usd_price)} in all")] if case.value_sat is not None else []),
        escape(" · ".join([case.state, *who, *notes])),
    ]
    said = [f"{case.verdict}: {case.why or 'nobody said why'}"] if case.verdict else []
    return look.item(head, " · ".join([*([case.reason] if case.reason else []), *said]))


def _case(key: str) -> None:
    of_transaction = f" · its transaction {look.link(key)}" if is_of_transaction(key) else ""
    st.html(f'<a class="plain" href="{escape(address("cases"))}" target="_self">← all cases</a>{of_transaction}')
    found = ask(read_case, storable(key))
    if found is None:
        st.html(look.empty("There is no alert with this key."))
        return
    st.html(_item(found.case))
    if found.events:
        st.html(look.table(["when (UTC)", "who", "did", "text"], [_row(event) for event in found.events]))
    else:
        st.html(look.empty("Nobody did anything with it yet."))
    _steps(key)


def _row(event: CaseEvent) -> list[str]:
    what = " ".join(part for part in (event.action, event.assignee, event.verdict) if part)
    return [f"{event.at:%d %b %H:%M:%S}", event.who, what, event.text or ""]


def _steps(key: str) -> None:
    """What can be done with a case."""
    own = own_key()
    with st.form("step", clear_on_submit=True):
        action = st.radio("Do", ACTIONS, horizontal=True)
        left, right = st.columns(2)
        assignee = left.text_input("Assign to", max_chars=60)
        verdict = right.radio("Close as", get_args(Verdict), horizontal=True)
        text = st.text_area("Note, or why", max_chars=2_000)
        if not st.form_submit_button("Do it"):
            return
    step: dict[str, Any] = {"action": action}
    step |= {"assignee": assignee} if action == "assign" else {}
    step |= {"verdict": verdict} if action == "close" else {}
    step |= {"text": text} if text and action in {"note", "close"} else {}
    if call("POST", f"/v1/cases/{key}", own, step) is not None:
        st.rerun()
