"""Rules: those that there are, and a place to write one, see what it would have raised, and add it."""

import threading
import time
from datetime import timedelta

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.dashboard.data import ask
from txwatch.dashboard.own_key import call, own_key
from txwatch.rules.document import RuleError, plain, read_yaml
from txwatch.rules.dry_run import DryMatch, DryRun, dry_run
from txwatch.rules.parse import parse_rule
from txwatch.rules.rule import Rule
from txwatch.rules.store import MatchCounts, count_matches, list_rules

DAYS = {"a day": 1, "7 days": 7, "30 days": 30}
MODES = ("active", "test", "off")
MOST_SECONDS = 15.0
"""Of a dry run: a statement of this page's may take twenty."""
EXAMPLE = """\
name: large-and-cheap
text: A hundred bitcoins or more, for less than others pay
severity: medium
alerts_per_hour: 20
when:
  all:
    - moved_sat >= 100 BTC
    - fee_rate_over_median_1h < 1
"""


def page() -> None:
    """The list, and the editor."""
    st.title("Rules")
    _list()
    st.header("Write one")
    rule, document = _editor()
    if rule is not None:
        _try(rule)
    st.header("Add or switch one")
    key = own_key()
    if rule is not None and st.button(f"Add {rule.name}, off"):
        added = call("POST", "/v1/rules", key, document)
        if added is not None:
            st.success(f"{added['name']} is version {added['version']}, {added['mode']}.")
    _switch(key)


def _list() -> None:
    rules = ask(list_rules)
    if not rules:
        st.html(look.empty("No rule yet. Six come with txwatch; this adds one: txwatch rules add dormant-coins-by-age"))
        return
    counts = ask(count_matches, utc_now())
    why = ["why"] if any(one.reason for one in rules) else []
    rows = [
        [
            one.name,
            one.mode,
            *map(look.count, _of(counts.get(one.name, MatchCounts()))),
            f"version {one.version} by {one.changed_by}",
            *([one.reason or ""] if why else []),
        ]
        for one in rules
    ]
    columns = ["rule", "mode", "alerts of a day", "in test", "held back", "changed", *why]
    st.html(look.table(columns, rows, (2, 3, 4)))


def _of(counts: MatchCounts) -> tuple[int, int, int]:
    return counts.alerts, counts.tested, counts.held_back


def _editor() -> tuple[Rule | None, object]:
    """The rule that is written, or None, and then what is wrong is said, place by place."""
    text = st.text_area("Rule", EXAMPLE, height=260, key="rule", help="docs/rules.md has the language.")
    try:
        placed = read_yaml(text)
        rule = parse_rule(placed)
    except RuleError as error:
        for fault in error.faults:
            where = ", ".join(part for part in (fault.path, f"line {fault.line}" if fault.line else "") if part)
            st.error(f"{where}: {fault.message}" if where else fault.message)
        return None, None
    st.caption(f"{rule.name} is a rule, {rule.severity.name}, at most {rule.alerts_per_hour:,} alerts an hour.")
    return rule, plain(placed)


@st.cache_resource
def _turn() -> threading.Lock:
    """One visitor at a time, so that the others find a connection: the pages share three."""
    return threading.Lock()


def _try(rule: Rule) -> None:
    chosen = look.choose("Past", DAYS, "7 days")
    if not st.button("Try it on the past"):
        return
    turn = _turn()
    if not turn.acquire(blocking=False):
        st.warning("Somebody else tries a rule just now. Try again in some seconds.")
        return
    until = time.monotonic() + MOST_SECONDS
    try:
        run = ask(dry_run, rule, utc_now(), DAYS[chosen], lambda: time.monotonic() > until)
    finally:
        turn.release()
    if not run.hours_with_data:
        st.html(look.empty(f"There is nothing to try it on in the last {chosen}: no window has features yet."))
        return
    looked_at = f"of {run.hours_with_data:,.1f} hours with data" + ("" if run.complete else ", from the newest back")
    look.draw_tiles(
        ("Matches an hour", f"{run.matches_per_hour:,.2f}", looked_at),
        ("Alerts an hour", f"{run.alerts_per_hour:,.2f}", f"with its cap of {rule.alerts_per_hour:,} an hour"),
        ("Alerts", look.count(run.alerts), f"of {run.matches:,} matches"),
    )
    if run.without_price:
        st.caption(f"In {run.without_price:,} windows no price was known: what is compared in USD was false.")
    for said in run.never_true:
        st.warning(f"{said}.")
    if run.by_hour:
        look.draw(
            _by_hour(run), "Alerts by hour that the rule would have raised, and what its cap would have held back."
        )
        st.caption("The ten largest")
        st.html("".join(map(_item, run.largest)))


def _by_hour(run: DryRun) -> ChartType:
    """What would have alerted in each hour, and on top of it what its cap would have held back."""
    rows = [(one.since, "alerts", 0, one.alerts) for one in run.by_hour]
    rows += [(one.since, "held back", one.alerts, one.matches) for one in run.by_hour if one.matches > one.alerts]
    frame = pd.DataFrame(rows, columns=["since", "what", "bottom", "top"])
    return look.bars(frame, timedelta(hours=1), alt.Color("what:N", title=None), "what:N", "top:Q")


def _item(match: DryMatch) -> str:
    head = [f"{match.seen_at:%d %b %H:%M} UTC", look.link(match.txid), look.amount(match.moved_sat)]
    return look.item(head, match.text)


def _switch(key: str) -> None:
    rules = ask(list_rules)
    if not rules:
        return
    with st.form("switch"):
        name = st.selectbox("Rule", [one.name for one in rules])
        mode = st.radio("Mode", MODES, horizontal=True, help="test: matches are recorded, and nothing is sent")
        if st.form_submit_button("Switch"):
            changed = call("POST", f"/v1/rules/{name}/mode", key, {"mode": mode})
            if changed is not None:
                st.success(f"{changed['name']} is {changed['mode']}, by version {changed['version']}.")
