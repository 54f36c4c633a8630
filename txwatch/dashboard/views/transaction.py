"""One transaction: how its score comes about, and where each of its features stands."""

from html import escape
from typing import Any

import altair as alt
import httpx
import pandas as pd
import streamlit as st
from altair.typing import ChartType

from txwatch.dashboard import look, palette
from txwatch.dashboard.data import ask, history, settings
from txwatch.dashboard.span import address
from txwatch.dashboard.views.coins import draw_coins
from txwatch.dashboard.views.now import alert_item
from txwatch.queries.alerts import list_anomalies
from txwatch.queries.history import ArchiveBusyError
from txwatch.queries.search import is_txid
from txwatch.queries.transactions import (
    FeatureValue,
    LifeEvent,
    StoredScore,
    TransactionDetail,
    read_transaction_detail,
)

LIFE = {
    "seen": palette.BLUE,
    "confirmed": palette.GREEN,
    "replaced": palette.ACCENT,
    "removed": palette.ACCENT,
    "unconfirmed": palette.ACCENT,
}
EXPLORERS = {
    "mempool.space": "https://mempool.space/tx/",
    "blockstream.info": "https://blockstream.info/tx/",
    "blockchain.com": "https://www.blockchain.com/explorer/transactions/btc/",
}


def page() -> None:
    """The page of a transaction that the address names."""
    st.title("One transaction")
    txid = st.query_params.get("txid", "").strip().lower()
    if not txid:
        newest = ask(list_anomalies, limit=1).items
        hint = f" For example {look.link(newest[0].txid)}, the newest unusual one." if newest else ""
        st.html(
            f'<div class="empty">The field above finds a transaction by its id, and every page leads here.{hint}</div>'
        )
        return
    found = ask(read_transaction_detail, txid) if is_txid(txid) else None
    missing: list[str] = []
    if found is None and is_txid(txid):
        try:
            found, missing = ask(history().transaction, txid)
        except ArchiveBusyError as error:
            missing = [f"{error}: load this page again"]
    if missing:
        st.warning("Not all of the archive was read: " + look.as_written("; ".join(missing)) + ".")
    if found is None:
        st.html(look.empty("No transaction with this id was landed."))
        return
    if found.archived is not None:
        st.caption(f"From the archive of {found.archived}: the database has given it up.")
    _explain(found)


def _explain(tx: TransactionDetail) -> None:
    _head(tx)
    st.header("Coins")
    st.html(draw_coins(tx))
    why, where = st.columns(2, gap="large")
    with where:
        st.header("Each feature among the newest transactions")
        look.draw(_strip(tx.features), "Where each feature stands among the newest transactions, in percent.")
    life, alike = st.columns(2, gap="large")
    with life:
        st.header("Life")
        st.html("".join(map(_moment, tx.life)) or look.empty("No source told of it by itself."))
        if tx.scores:
            st.header("Scores")
            columns = ["model", "lane", "score", "threshold", "verdict", "at, UTC"]
            st.html(look.table(columns, list(map(_score, tx.scores)), (2, 3)))
    # Last, because the first question after a start waits for the API to load the model.
    with why:
        st.header("How the score comes about")
        _waterfall(tx.txid)
    with alike:
        st.header("Most like it")
        _neighbours(tx.txid)


def _head(tx: TransactionDetail) -> None:
    """Figures, where else to look, and the alert."""
    # A challenger's score in shadow is no verdict.
    newest = next((score for score in tx.scores if score.lane != "shadow"), None)
    moved = [coin.value or 0 for coin in tx.outputs if not coin.likely_change]
    confirmed = "not in a block yet" if tx.confirmed_in is None else f"in block {tx.confirmed_in:,}"
    look.draw_tiles(
        ("Likely moved", look.amount(sum(moved), tx.usd_price), f"of outputs of {look.amount(tx.value_sat)}"),
        (
            "Fee",
            look.amount(tx.fee_sat, tx.usd_price),
            "rate unknown" if tx.fee_rate is None else f"{tx.fee_rate:,.1f} sat/vB",
        ),
        ("Size", f"{look.count(tx.vsize)} vB", f"{len(tx.inputs):,} in, {len(tx.outputs):,} out"),
        ("Seen", f"{tx.seen_at:%H:%M:%S} UTC", f"{tx.seen_at:%d %b %Y}, {confirmed}"),
        (
            "Score",
            f"{newest.score:.3f}" if newest else "not yet",
            f"unusual from {newest.threshold:.3f} on" if newest else "its window is not scored yet",
        ),
    )
    explorers = " · ".join(
        f'<a class="plain" href="{base}{tx.txid}" target="_blank" rel="noopener">{name}</a>'
        for name, base in EXPLORERS.items()
    )
    st.html(f'<p class="note"><span class="mono" style="overflow-wrap:anywhere">{tx.txid}</span><br>{explorers}</p>')
    if tx.alert is not None:
        st.html(alert_item(tx.alert.alert))
        for update in tx.alert.updates:
            st.caption(f"{look.clock(update.created_at)} UTC: {look.as_written(update.text)}")
        case = escape(address("cases", alert=tx.txid))
        st.html(f'<p class="note"><a class="plain" href="{case}" target="_self">Its case</a></p>')
    elif newest is not None and newest.is_anomaly:
        reasons = "; ".join(reason.text for reason in newest.reasons)
        st.html(look.item([look.chip("unusual", palette.ACCENT)], reasons or "unusual as a whole"))


def _score(score: StoredScore) -> list[str]:
    return [
        score.model_version,
        score.lane,
        f"{score.score:.4f}",
        f"{score.threshold:.4f}",
        "unusual" if score.is_anomaly else "ordinary",
        f"{score.scored_at:%d %b %H:%M:%S}",
    ]


@st.cache_data(max_entries=200, ttl=60, show_spinner="Asking the model…")
def _ask_api(base: str, txid: str, what: str) -> dict[str, Any] | None:
    try:
        answer = httpx.get(f"{base}/v1/transactions/{txid}/{what}", timeout=30, trust_env=False)
    except httpx.HTTPError:
        return None
    return dict(answer.json()) if answer.status_code == 200 else None


def _neighbours(txid: str) -> None:
    found = _ask_api(settings().api_url, txid, "neighbours")
    if found is None or not found["nearest"]:
        st.html(look.empty("Nothing to compare with: the API does not run, or there is no model or no window yet."))
        return
    st.html("".join(map(_neighbour, found["nearest"])))
    st.caption(
        f"The nearest of the {found['among']:,} before it, as model version {found['model_version']} sees them, with"
        " distances in standard deviations of its training day. Each says where it differs most."
    )


def _neighbour(one: dict[str, Any]) -> str:
    rate = "fee unknown" if one["fee_rate"] is None else f"{one['fee_rate']:,.1f} sat/vB"
    head = [
        look.link(one["txid"]),
        escape(f"{one['distance']:.1f} away"),
        escape(look.amount(one["value_sat"])),
        escape(rate),
    ]
    return look.item(head, "; ".join(one["differs"]) or "the same in every feature")


def _waterfall(txid: str) -> None:
    found = _ask_api(settings().api_url, txid, "waterfall")
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


def _moment(event: LifeEvent) -> str:
    head = [look.chip(event.event, LIFE[event.event]), escape(f"{event.at:%d %b %H:%M:%S} UTC")]
    if event.event == "replaced":
        return look.item([*head, "by", look.link(event.other or "")], f"{event.source} dropped it for another one")
    if event.height is not None:
        return look.item(head, f"{'in' if event.event == 'confirmed' else 'again: left'} block {event.height:,}")
    return look.item(head, f"by {event.source}" if event.source else "by the chain")
