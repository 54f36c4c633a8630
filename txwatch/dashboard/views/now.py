"""Now: one look at what happened in the time shown."""

from datetime import timedelta
from html import escape

import streamlit as st

from txwatch.alerts.health import CHAT_REFUSES, RULE_OFF, RUN_FAILED
from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.dashboard.data import ask, ask_rarely, settings
from txwatch.dashboard.look import freshness
from txwatch.dashboard.span import Span, address, shown
from txwatch.dashboard.views.traffic import (
    fees_over_time,
    fees_say,
    transactions_over_time,
    transactions_say,
    value_against_fee,
)
from txwatch.detection.reasons import priced
from txwatch.labels.whales import flow_totals
from txwatch.queries.alerts import FLOW_WORDS, AlertSummary, WhaleMove, count_live_alerts, list_alerts, list_whales
from txwatch.queries.feed import RecordedBlock, list_blocks
from txwatch.queries.sources import SourceQuality, read_sources
from txwatch.queries.status import HealthCheck, Overview, latest_health, read_overview
from txwatch.queries.traffic import Campaign, TrafficSpan, list_campaigns, read_traffic, sample_traffic

SHOWN_ALERTS, SHOWN_CAMPAIGNS, SHOWN_WHALES, MOST_BLOCKS = 12, 5, 5, 200


RARELY = 6
"""Charts and lists below are drawn again every so many times that the alerts are."""


def page() -> None:
    """The first page. Each part draws itself again."""
    st.title("Now")
    again = shown().again
    rarely = again and RARELY * again
    st.fragment(_figures, run_every=again)()
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.fragment(_charts, run_every=rarely)()
    with right:
        st.header("Alerts")
        st.fragment(_alerts, run_every=again)()
    st.fragment(_below, run_every=rarely)()


def _traffic(span: Span) -> list[TrafficSpan]:
    return ask_rarely(read_traffic, span.start, span.end, span.width, ttl=span.again)


def _blocks(span: Span) -> list[RecordedBlock]:
    return [block for block in ask(list_blocks, limit=MOST_BLOCKS).items if span.start <= block.seen_at < span.end]


def _alerts() -> None:
    span = shown()
    alerts = ask(list_alerts, since=span.start, until=span.end, limit=SHOWN_ALERTS)
    st.html("".join(map(alert_item, alerts.items)) or look.empty(f"No alert {span.words}: nothing was unusual."))
    if alerts.next:
        every = escape(address("cases"))
        st.html(f'<p class="note"><a class="plain" href="{every}" target="_self">All alerts</a></p>')


def _charts() -> None:
    span = shown()
    traffic = _traffic(span)
    points = ask_rarely(sample_traffic, span.start, span.end, ttl=span.again)
    st.header("Value against fee rate")
    if not points:
        st.html(look.empty(f"No transaction was seen {span.words}."))
        return
    total, unusual = sum(part.transactions for part in traffic), sum(bool(point.kinds) for point in points)
    look.draw(value_against_fee(points), "Each transaction by its total output and its fee rate.")
    drawn = (
        "all of them" if len(points) >= total else f"{len(points) - unusual:,} of {total:,}, spread evenly over time"
    )
    st.caption(f"Grey: ordinary ones, {drawn}. In colour: {unusual:,} unusual ones, which a click opens.")
    if not traffic:
        return
    st.header("Transactions and fee rates")
    look.draw(transactions_over_time(traffic, span.width), transactions_say(traffic))
    look.draw(fees_over_time(traffic, _blocks(span)), fees_say(traffic))
    st.caption("Line: the median fee rate, with the middle 80 % of all around it. Dashed: a block came.")


def _below() -> None:
    span = shown()
    campaigns, whales, feed = st.columns(3, gap="large")
    with campaigns:
        st.header("Campaigns")
        found = ask(list_campaigns, span.start, span.end, SHOWN_CAMPAIGNS)
        st.html("".join(map(_campaign, found)) or look.empty(f"None {span.words}: no transactions that are alike."))
    with whales:
        st.header("Whales")
        if flows := ask(flow_totals, span.start, span.end):
            rows = [
                [look.flow_words(FLOW_WORDS[one.flow]), look.count(one.count), look.amount(one.moved_sat)]
                for one in flows
            ]
            st.html(look.table(["flow", "whales", "moved"], rows, (1, 2)))
        moves = ask(list_whales, since=span.start, until=span.end, limit=SHOWN_WHALES).items
        st.html("".join(map(_whale, moves)) or look.empty(f"None {span.words}."))
    with feed:
        st.header("Sources")
        st.html(_sources(ask(read_sources, utc_now()), ask(read_overview, utc_now())))
        st.header("Health")
        st.html(_health(ask(latest_health)))


def alert_item(alert: AlertSummary) -> str:
    """One alert in a list."""
    head = [
        look.kind_chip(alert.kinds[0], alert.severity),
        escape(f"{look.clock(alert.seen_at)} UTC"),
        look.link(alert.alert_key),
        escape(", ".join(alert.states) or "not sent"),
        *(["late"] if alert.late else []),
        *look.alike(alert.alike),
    ]
    reasons = "; ".join(priced(reason, alert.usd_price) for reason in alert.reasons[:3])
    return look.item(head, reasons or "unusual as a whole, by no single feature")


def _figures() -> None:
    span, overview = shown(), ask(read_overview, utc_now())
    freshness(overview, refreshes=span.again is not None)
    levels, lag = overview.levels, overview.lag_seconds
    traffic, flows, blocks = _traffic(span), ask(flow_totals, span.start, span.end), _blocks(span)
    fee_rate = next((part.fee_rate_p50 for part in reversed(traffic) if part.fee_rate_p50 is not None), None)
    moved, whales = sum(one.moved_sat for one in flows), sum(one.count for one in flows)
    live = ask(count_live_alerts, span.start, span.end)
    waiting = f"{levels.deliveries_pending} wait, {levels.deliveries_uncertain} uncertain"
    look.draw_tiles(
        (
            "Transactions",
            f"{levels.transactions_1m / 60:.1f} / s",
            f"{look.count(sum(part.transactions for part in traffic))} {span.words}",
        ),
        ("Fee rate", "–" if fee_rate is None else f"{fee_rate:,.1f} sat/vB", "half of the newest pay less"),
        (
            "Last block",
            look.count(blocks[0].height) if blocks else "none",
            f"{look.span((overview.at - blocks[0].seen_at).total_seconds())} ago" if blocks else span.words,
        ),
        ("Whales", look.count(whales), f"{look.amount(moved)} likely moved" if whales else span.words),
        ("Alerts", look.count(live.alerts), f"raised live {span.words}; {waiting}"),
        (
            "Alert budget",
            f"{budget_used(live.of_the_budget, span, traffic)} of {settings().alerts_per_hour:g}",
            f"an hour heard, {span.words}; it binds unusual transactions alone",
        ),
        ("Behind the feed", "–" if lag is None else look.span(lag), "received to committed"),
        ("Complete", look.share(levels.completeness), f"of what was mined in a day; {levels.open_gaps} gaps open"),
    )


def budget_used(alerts: int, span: Span, traffic: list[TrafficSpan]) -> str:
    """Alerts an hour that the budget binds, by the hours in which anything was heard: a young system has few."""
    hours = min(len(traffic) * (span.width / timedelta(hours=1)), span.hours)
    return f"{alerts / hours:.3g}" if hours else "–"


def _campaign(campaign: Campaign) -> str:
    head = [
        look.kind_chip(campaign.kinds[0], campaign.severity),
        escape(f"{look.clock(campaign.first_seen_at)} to {look.clock(campaign.last_seen_at)} UTC"),
        look.link(campaign.alert_key),
    ]
    value = "" if campaign.value_sat is None else f", {look.amount(campaign.value_sat, campaign.usd_price)} in all"
    return look.item(head, f"{campaign.transactions:,} alike{value}")


def _whale(move: WhaleMove) -> str:
    head = [look.chip(look.flow_words(move.flow)), escape(f"{look.clock(move.seen_at)} UTC"), look.link(move.txid)]
    return look.item(head, f"{look.amount(move.moved_sat, move.usd_price)} likely moved")


def _sources(sources: list[SourceQuality], overview: Overview) -> str:
    rows = [
        [
            one.source,
            "connected" if one.connected else "away",
            look.count(one.transactions_1h),
            look.share(one.completeness_1d),
        ]
        for one in sources
    ]
    gaps = overview.levels.gap_seconds
    said = f"{look.span(gaps)} were not heard in all." if gaps else "All was heard since the beginning."
    table = look.table(["source", "state", "in an hour", "of blocks"], rows, (2, 3), "No source was followed yet.")
    return f'{table}<p class="note">{escape(said)}</p>'


_CHECKED = {
    "lease_stale": "worker",
    "feed_silent": "feed",
    "landing_lag": "landing",
    "windows_failed": "windows",
    "dead_letters": "messages",
    "bot_hears_nothing": "bot",
    "disk_full": "disk",
    "disk_fills": "disk in two weeks",
    "drift": "drift",
    "archive": "archive",
}
_CHECKED_EACH = {CHAT_REFUSES: "channel", RULE_OFF: "rule", f"{RUN_FAILED}:": "job"}
"""What a check is about. Its own name is that of what may be wrong, and would read as if it were."""


def checked(name: str) -> str:
    """What a check is about, by the check's name."""
    for prefix, noun in _CHECKED_EACH.items():
        if name.startswith(prefix):
            return f"{noun} {name.removeprefix(prefix)}"
    return _CHECKED.get(name, name.replace("_", " "))


def _health(checks: list[HealthCheck]) -> str:
    if not checks:
        return look.empty("No health check has run yet.")
    marks = {"well": ("ok", "●"), "wrong": ("bad", "▲"), "unknown": ("unclear", "○")}
    wrong = [check for check in checks if check.state == "wrong"]
    rows = [
        f'<div class="item"><div class="head"><span class="bad">▲</span> {escape(checked(check.name))}'
        f" <span>{escape(look.clock(check.checked_at))} UTC</span></div>"
        f'<div class="text">{escape(check.text)}</div></div>'
        for check in wrong
    ]
    others = "".join(
        f'<span style="white-space:nowrap"><span class="{marks[check.state][0]}" title="{escape(check.state)}">'
        f"{marks[check.state][1]}</span> {escape(checked(check.name))}</span> "
        for check in checks
        if check.state != "wrong"
    )
    return "".join(rows) + f'<p class="note" style="display:flex;flex-wrap:wrap;gap:.2rem .8rem">{others}</p>'
