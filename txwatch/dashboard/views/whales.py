"""Whales: large values that likely changed hands, and between whom, in the last hours and in the past."""

from datetime import timedelta
from html import escape

import altair as alt
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.clock import utc_now
from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, settings
from txwatch.dashboard.look import freshness
from txwatch.dashboard.span import shown
from txwatch.detection.reasons import priced
from txwatch.labels.whales import RecordedWhale, entity_totals, flow_totals, largest_whale_moves
from txwatch.queries.alerts import FLOW_WORDS, FLOWS, WhaleMove, list_whales
from txwatch.queries.status import read_overview
from txwatch.wire.messages import SAT_PER_BTC

DAYS = {"30 days": 30, "90 days": 90, "a year": 365}
FLOW_COLOURS = [palette.GREEN, palette.ACCENT, palette.GREY, palette.VIOLET, palette.BLUE]


def page() -> None:
    """The whale tracker."""
    st.title("Whales")
    st.fragment(_whales, run_every=shown().again)()
    _history()


def _whales() -> None:
    span = shown()
    freshness(ask(read_overview, utc_now()), refreshes=span.again is not None)
    moves = ask(list_whales, since=span.start, until=span.end, limit=200).items
    if not moves:
        btc, usd = settings().whale_btc, settings().whale_usd
        least = f"{btc:,.0f} BTC" if usd is None else f"{btc:,.0f} BTC, or {usd:,.0f} USD,"
        st.html(look.empty(f"No movement of {least} or more {span.words} (TXWATCH_WHALE_BTC, TXWATCH_WHALE_USD)."))
        return
    largest = max(moves, key=lambda move: move.moved_sat)
    look.draw_tiles(
        ("Movements", look.count(len(moves)), span.words),
        ("Likely moved", look.amount(sum(move.moved_sat for move in moves)), "without the senders' change"),
        ("Largest", look.amount(largest.moved_sat, largest.usd_price), f"{look.clock(largest.seen_at)} UTC"),
        *(
            (look.flow_words(flow).capitalize(), look.count(sum(m.flow == flow for m in moves)), "movements")
            for flow in FLOWS
            if any(m.flow == flow for m in moves)
        ),
    )
    look.draw(_moves(moves), "What each whale likely moved, over time and by flow.")
    st.html("".join(map(_item, moves[:40])))


def _history() -> None:
    """What whales of the past moved, to and from whom. Kept when transactions and scores are removed."""
    st.header("The past")
    chosen, now = look.choose("Past", DAYS, "30 days"), utc_now()
    since = now - timedelta(days=DAYS[chosen])
    flows = ask(flow_totals, since, now)
    if not flows:
        st.html(look.empty(f"No whale in the last {chosen}."))
        return
    look.draw_tiles(
        *(
            (
                look.flow_words(FLOW_WORDS[total.flow]).capitalize(),
                look.amount(total.moved_sat),
                f"{total.count:,} whales",
            )
            for total in flows
        )
    )
    entities = ask(entity_totals, since, now, 20)
    if entities:
        st.caption("Brought to and taken from whom labels name, moves within one left out")
        rows = [[e.entity, look.amount(e.received_sat), look.amount(e.sent_sat), look.count(e.count)] for e in entities]
        st.html(look.table(["who", "received", "sent", "whales"], rows, (1, 2, 3)))
    st.caption("The largest, moves within one entity left out")
    st.html("".join(map(_past, ask(largest_whale_moves, since))) or look.empty("None between two of them."))


def _past(whale: RecordedWhale) -> str:
    flow = FLOW_WORDS[whale.flow]
    confirmed = "" if whale.confirmed_height is None else f"in block {whale.confirmed_height:,}"
    head = [
        look.chip(look.flow_words(flow), FLOW_COLOURS[FLOWS.index(flow)]),
        escape(f"{whale.seen_at:%d %b %Y %H:%M} UTC"),
        look.link(whale.txid),
        escape(confirmed),
    ]
    who = f"{', '.join(whale.senders) or 'unknown'} to {', '.join(whale.receivers) or 'unknown'}"
    return look.item(head, f"{look.amount(whale.moved_sat, whale.usd_price)} likely moved, {who}")


def _moves(moves: list[WhaleMove]) -> ChartType:
    frame = pd.DataFrame(
        [
            (m.seen_at, look.at(m.seen_at), m.moved_sat / SAT_PER_BTC, look.flow_words(m.flow), look.short(m.txid))
            for m in moves
        ],
        columns=["since", "at", "btc", "flow", "transaction"],
    )
    seen = [flow for flow in FLOWS if any(move.flow == flow for move in moves)]
    colours = alt.Scale(
        domain=[look.flow_words(flow) for flow in seen], range=[FLOW_COLOURS[FLOWS.index(flow)] for flow in seen]
    )
    return (
        alt.Chart(frame, height=230)
        .mark_circle(size=70, opacity=0.75)
        .encode(
            x=look.utc_axis(frame["since"]),
            y=alt.Y("btc:Q", axis=look.log_axis("likely moved, BTC"), scale=alt.Scale(type="log", nice=True)),
            color=alt.Color("flow:N", scale=colours),
            tooltip=["at:N", alt.Tooltip("btc:Q", title="BTC", format=",.2f"), "flow:N", "transaction:N"],
        )
    )


def _item(move: WhaleMove) -> str:
    head = [
        look.chip(look.flow_words(move.flow), FLOW_COLOURS[FLOWS.index(move.flow)]),
        escape(f"{look.clock(move.seen_at)} UTC"),
        look.link(move.txid),
        escape(f"{move.input_count} in, {move.output_count} out, fee {look.amount(move.fee_sat, move.usd_price)}"),
    ]
    return look.item(head, "; ".join(priced(reason, move.usd_price) for reason in move.reasons))
