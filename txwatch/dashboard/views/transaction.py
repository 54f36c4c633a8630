"""One transaction: how its score comes about, and where each of its features stands."""

import re
from html import escape
from typing import Any

import altair as alt
import httpx
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, settings
from txwatch.dashboard.views.now import alert_item
from txwatch.features.transaction import BLOCKS_A_DAY
from txwatch.queries.alerts import list_anomalies
from txwatch.queries.transactions import Coin, FeatureValue, LifeEvent, TransactionDetail, read_transaction_detail

MAX_COINS = 12


def page() -> None:
    """The page of a transaction that the address names, or that is typed in."""
    st.title("One transaction")
    asked = st.query_params.get("txid", "")
    txid = st.text_input("Transaction id", value=asked, placeholder="64 hex digits", max_chars=64).strip().lower()
    if not txid:
        newest = ask(list_anomalies, limit=1).items
        hint = f" For example {look.link(newest[0].txid)}, the newest unusual one." if newest else ""
        st.html(f'<div class="empty">Enter a transaction id, or follow one from another page.{hint}</div>')
        return
    found = ask(read_transaction_detail, txid) if re.fullmatch("[0-9a-f]{64}", txid) else None
    if found is None:
        st.html(look.empty("No transaction with this id was landed."))
        return
    if txid != asked:
        st.query_params["txid"] = txid
    _explain(found)


def _explain(tx: TransactionDetail) -> None:
    rate = "unknown" if tx.fee_rate is None else f"{tx.fee_rate:,.1f} sat/vB"
    # A challenger's score in shadow is no verdict.
    newest = next((score for score in tx.scores if score.lane != "shadow"), None)
    confirmed = "" if tx.confirmed_in is None else f"; in block {tx.confirmed_in:,}"
    look.draw_tiles(
        ("Total output", look.amount(tx.value_sat, tx.usd_price), f"{len(tx.inputs)} in, {len(tx.outputs)} out"),
        ("Fee", look.amount(tx.fee_sat, tx.usd_price), rate),
        ("Size", f"{look.count(tx.vsize)} vB", f"{look.count(tx.size)} bytes"),
        ("Seen", f"{look.clock(tx.seen_at)} UTC", f"{tx.seen_at:%d %b %Y}, by {tx.source}{confirmed}"),
        (
            "Score",
            f"{newest.score:.3f}" if newest else "not yet",
            f"unusual from {newest.threshold:.3f} on" if newest else "its window is not scored yet",
        ),
    )
    if tx.alert is not None:
        st.html(alert_item(tx.alert.alert))
        for update in tx.alert.updates:
            st.caption(f"{look.clock(update.created_at)} UTC: {update.text}")
    elif newest is not None and newest.is_anomaly:
        st.html(look.item([look.chip("unusual", palette.ACCENT)], "; ".join(r.text for r in newest.reasons)))
    why, where = st.columns(2, gap="large")
    with where:
        st.subheader("Each feature among the newest transactions")
        look.draw(_strip(tx.features), "Where each feature stands among the newest transactions, in percent.")
    if tx.life:
        st.subheader("Life")
        st.html(look.table(["at, UTC", "what", "by"], [_moment(event) for event in tx.life], ()))
    for column, title, coins in zip(st.columns(2), ("Inputs", "Outputs"), (tx.inputs, tx.outputs), strict=True):
        with column:
            st.subheader(f"{title}, {len(coins):,}")
            st.html(_coin_table(coins))
    if tx.scores:
        st.subheader("Scores")
        rows = [
            [
                s.model_version,
                s.lane,
                str(s.context_version),
                f"{s.score:.4f}",
                f"{s.threshold:.4f}",
                "unusual" if s.is_anomaly else "ordinary",
                f"{s.scored_at:%d %b %H:%M:%S}",
            ]
            for s in tx.scores
        ]
        columns = ["model", "lane", "context", "score", "threshold", "verdict", "at, UTC"]
        st.html(look.table(columns, rows, (2, 3, 4)))
    # Last, because the first question after a start waits for the API to load the model.
    with why:
        st.subheader("How the score comes about")
        _waterfall(tx.txid)


@st.cache_data(max_entries=100, ttl=60, show_spinner="Asking the model…")
def _ask_api(base: str, txid: str) -> dict[str, Any] | None:
    try:
        answer = httpx.get(f"{base}/v1/transactions/{txid}/waterfall", timeout=30)
    except httpx.HTTPError:
        return None
    return dict(answer.json()) if answer.status_code == 200 else None


def _waterfall(txid: str) -> None:
    found = _ask_api(settings().api_url, txid)
    if found is None:
        st.html(look.empty("The API has no answer: it does not run, or there is no model yet."))
        return
    score = found["rest"]
    rows = [("everything else", 0.0, score, "", "rest")]
    for step in reversed(found["steps"]):
        below, score = score, score + step["lowers"]
        rows.append((step["feature"].replace("_", " "), below, score, f"+{step['lowers']:.3f}", "step"))
    rows.append(("score", 0.0, score, f"{score:.3f}", "score"))
    frame = pd.DataFrame(rows[::-1], columns=["name", "from", "to", "text", "kind"])
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=190))
    low = max(0.0, found["rest"] - 0.1)
    frame["from"] = frame["from"].clip(lower=low)
    bars = (
        alt.Chart(frame, height=34 * len(frame) + 40)
        .mark_bar(height=18, cornerRadius=2)
        .encode(
            x=alt.X("from:Q", title="score", scale=alt.Scale(domain=[low, max(found["threshold"], score) + 0.06])),
            x2="to:Q",
            y=y,
            color=alt.Color(
                "kind:N",
                legend=None,
                scale=alt.Scale(domain=["rest", "step", "score"], range=[palette.GREY, palette.ACCENT, palette.TEXT]),
            ),
        )
    )
    texts = (
        alt.Chart(frame)
        .mark_text(align="left", dx=5, fontSize=11, color=palette.TEXT)
        .encode(x="to:Q", y=y, text="text:N")
    )
    look.draw(
        bars + texts + look.line_at(found["threshold"], upright=True),
        f"How the score of {found['score']:.3f} comes about, feature by feature.",
    )
    st.caption(
        f"Each feature put back to its ordinary value lowers the score of model version {found['model_version']} by so"
        f" much. The dashed line is the threshold of its window, {found['threshold']:.3f}."
    )
    if found["new_shape"]:
        st.caption("Neither its value nor its fee is material, but nothing like it was in the training day.")
    elif not found["material"]:
        st.caption("Counts half: neither its value nor its fee is material, and there are others like it.")
    if found["accounted_for"]:
        names, kinds = ([name.replace("_", " ") for name in found[key]] for key in ("accounted_for", "found"))
        st.caption(f"Not counted, because it was found to be {' and '.join(kinds)}: {', '.join(names)}.")


def _strip(features: list[FeatureValue]) -> ChartType:
    shown = [f for f in features if f.percentile is not None]
    shown.sort(key=lambda f: -abs((f.percentile or 50) - 50))
    frame = pd.DataFrame(
        [(f.name.replace("_", " "), f.percentile, f"{f.value:,.4g} {f.unit}") for f in shown[:14]],
        columns=["feature", "percentile", "value"],
    )
    y = alt.Y("feature:N", sort=None, title=None, axis=alt.Axis(labelLimit=210, grid=True))
    extreme = (alt.datum.percentile >= 99) | (alt.datum.percentile <= 1)
    dots = (
        alt.Chart(frame, height=22 * len(frame) + 40)
        .mark_circle(size=90, opacity=1)
        .encode(
            x=alt.X("percentile:Q", title="percentile", scale=alt.Scale(domain=[0, 100])),
            y=y,
            color=alt.condition(extreme, alt.value(palette.ACCENT), alt.value(palette.BLUE)),
            tooltip=["feature:N", "value:N", alt.Tooltip("percentile:Q", format=".1f")],
        )
    )
    middle = alt.Chart(pd.DataFrame({"at": [50]})).mark_rule(color=palette.GREY).encode(x="at:Q")
    return alt.layer(middle, dots)


def _moment(event: LifeEvent) -> list[str]:
    what = event.event
    if event.event == "replaced":
        what = f"replaced by {look.short(event.other or '')}"
    elif event.height is not None:
        what += f" {'in' if event.event == 'confirmed' else 'again: left'} block {event.height:,}"
    return [f"{event.at:%d %b %H:%M:%S}", what, event.source or "the chain"]


def _age(coin: Coin) -> str:
    """The age of a spent coin, empty where it is not known."""
    if coin.age_blocks is None:
        return ""
    days = coin.age_blocks / BLOCKS_A_DAY
    age = "unconfirmed" if coin.height is None else f"{days / 365.25:.1f} years" if days >= 365 else f"{days:.0f} days"
    return f"{age}, mined" if coin.coinbase else age


def _coin_table(coins: list[Coin]) -> str:
    largest = sorted(coins, key=lambda coin: -(coin.value or 0))[:MAX_COINS]
    rows = "".join(
        f'<tr><td class="mono" style="overflow-wrap:anywhere">{escape(coin.addr or "no address")}</td>'
        f"<td>{escape(coin.type)}</td><td>{escape(_age(coin))}</td>"
        f"<td class=number>{escape(look.amount(coin.value))}</td></tr>"
        for coin in largest
    )
    more = f"<p>The {MAX_COINS} largest are shown.</p>" if len(coins) > MAX_COINS else ""
    return f'<div class="scroll"><table class="plain">{rows}</table></div>{more}'
