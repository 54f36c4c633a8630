"""Each page over a populated and over an empty database."""

import importlib.util
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import httpx
import pytest
from markdown_it import MarkdownIt

from tests.buckets import environment_of, s3_server, using_s3
from tests.dashboard.pages import PAGES, VIEWS
from tests.databases import copied_database, database_name
from tests.leases import heartbeats
from tests.populated import CHAT, Populated
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS
from txwatch.alerts.health import CHAT_REFUSES
from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.detection.drift_reports import DriftPages
from txwatch.detection.kinds import KINDS
from txwatch.lab.simulator.telegram import LocalTelegram
from txwatch.lab.simulator.telegram_server import TelegramServer
from txwatch.people.keys import add_key
from txwatch.places import S3Object
from txwatch.queries.cases import read_case
from txwatch.queries.status import latest_health
from txwatch.queries.traffic import TrafficSpan
from txwatch.rules.store import list_rules
from txwatch.store.database import connect
from txwatch.store.lease import take_lease

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed"),
    # Streamlit's own code warns under test.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    import streamlit as st

    monkeypatch.setenv("TXWATCH_HOME", str(tmp_path))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield monkeypatch
    st.cache_resource.clear()
    st.cache_data.clear()


def run(view: str, **query: str) -> object:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_string(
        f"from txwatch.dashboard.views import {view}\n{view}.page()", default_timeout=PATIENCE_SECONDS
    )
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_shows_itself(environment: pytest.MonkeyPatch, populated: Populated, view: str) -> None:
    environment.setenv("DATABASE_URL", populated.database_url)
    app = run(view)
    assert not app.exception, app.exception  # type: ignore[attr-defined]
    assert not app.error  # type: ignore[attr-defined]
    assert app.title[0].value in PAGES.values()  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["a\0b", "\0", "%_\\", "' OR 1=1 --"])
def test_whatever_is_searched_for_is_text(environment: pytest.MonkeyPatch, populated: Populated, text: str) -> None:
    environment.setenv("DATABASE_URL", populated.database_url)
    app = run("search", q=text)
    assert not app.exception, app.exception  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text", ["![a](http://192.0.2.1/b.png)", "[your bank](https://example.org)", "$a$ :red[b] `c` # d"]
)
def test_what_others_wrote_is_no_markdown(environment: pytest.MonkeyPatch, own_populated: Populated, text: str) -> None:
    """A label's name may be anything, and becomes part of what is said of an alert later."""
    environment.setenv("DATABASE_URL", own_populated.database_url)
    with connect(own_populated.database_url) as connection:
        [(txid,)] = connection.execute(
            "SELECT alert_key FROM alerts JOIN transactions ON txid = alert_key ORDER BY 1 LIMIT 1"
        ).fetchall()
        connection.execute(
            "INSERT INTO alert_updates (alert_key, update_key, text, created_at) VALUES (%s, %s, %s, now())",
            [txid, f"kind:{text}", text],
        )
    captions = [one.value for one in run("transaction", txid=txid).caption]  # type: ignore[attr-defined]
    [caption] = [one for one in captions if one.endswith(look.as_written(text))]
    assert text not in caption
    assert MarkdownIt().renderInline(look.as_written(text)) == escape(text, quote=False)


@pytest.mark.parametrize(
    "until", ["0001-01-01T00:00", "9999-12-31T23:59", "0001-01-01T00:00+14:00", "x", "2024-03-14T12:00+01:00"]
)
def test_any_moment_of_an_address_leaves_the_pages_whole(
    environment: pytest.MonkeyPatch, populated: Populated, until: str
) -> None:
    from streamlit.testing.v1 import AppTest

    environment.setenv("DATABASE_URL", populated.database_url)
    app = AppTest.from_string(
        "from txwatch.dashboard.span import choose_span, take_span\nfrom txwatch.dashboard.views import anomalies\n"
        "take_span()\nchoose_span()\nanomalies.page()",
        default_timeout=PATIENCE_SECONDS,
    )
    app.query_params["until"] = until
    app.run()
    assert not app.exception, app.exception
    chosen = app.session_state["until"]
    assert chosen == (datetime(2024, 3, 14, 11) if until.startswith("2024") else None)


def test_a_case_is_closed_by_a_key_of_ones_own(environment: pytest.MonkeyPatch, own_populated: Populated) -> None:
    environment.setenv("DATABASE_URL", own_populated.database_url)
    with connect(own_populated.database_url) as connection:
        row = connection.execute("SELECT alert_key FROM alerts WHERE alert_key !~ ':' ORDER BY 1 LIMIT 1").fetchone()
        assert row is not None
        key = str(row[0])
        with connection.transaction():
            own = add_key(connection, "dora", ["manage"], utc_now())
    with serving(settings_of(own_populated.database_url, own_populated.home)) as url:
        environment.setenv("TXWATCH_API_URL", url)
        app: Any = run("cases", alert=key)
        app.text_input(key="api_key").input("wrong")
        _close(app)
        assert "needs a key" in app.error[0].value
        app.text_input(key="api_key").input(own)
        _close(app)
        assert not app.error
    with connect(own_populated.database_url) as connection:
        detail = read_case(connection, key)
    assert detail is not None
    assert (detail.case.state, detail.case.verdict, detail.case.changed_by) == ("closed", "useful", "key:dora")


def _close(app: Any) -> None:
    app.radio[0].set_value("close")
    app.button[0].click().run()


RULE = """
name: any-move
text: Anything that moves
severity: low
when: moved_sat >= 1 BTC
"""


def test_a_rule_is_written_tried_and_added_by_a_key_of_ones_own(
    environment: pytest.MonkeyPatch, own_populated: Populated
) -> None:
    environment.setenv("DATABASE_URL", own_populated.database_url)
    with serving(settings_of(own_populated.database_url, own_populated.home)) as url:
        environment.setenv("TXWATCH_API_URL", url)
        app: Any = run("rules")
        app.text_area[0].set_value(RULE.replace("moved_sat", "moved_sats")).run()
        assert "moved_sat" in app.error[0].value
        assert [button.label for button in app.button] == []
        app.text_area[0].set_value(RULE).run()
        assert not app.error
        _button(app, "Try it on the past").click().run()
        assert not app.exception, app.exception
        assert "Matches an hour" in _written(app)
        app.text_input(key="api_key").input(KEY)
        _button(app, "Add any-move, off").click().run()
        assert "any-move is version 1, off" in app.success[0].value
        app.radio[0].set_value("test")
        _button(app, "Switch").click().run()
    with connect(own_populated.database_url) as connection:
        (rule,) = list_rules(connection)
    assert (rule.name, rule.mode, rule.version, rule.changed_by) == ("any-move", "test", 2, "key:owner")


def test_one_visitor_at_a_time_tries_a_rule(environment: pytest.MonkeyPatch, database_url: str) -> None:
    """Three would leave no connection to the pages of all others."""
    from txwatch.dashboard.views.rules import _turn

    environment.setenv("DATABASE_URL", database_url)
    app: Any = run("rules")
    with _turn():
        _button(app, "Try it on the past").click().run()
        assert app.warning[0].value == "Somebody else tries a rule just now. Try again in some seconds."
    _button(app, "Try it on the past").click().run()
    assert not app.warning
    assert "There is nothing to try it on" in _written(app)
    assert not _turn().locked()


@pytest.mark.parametrize("key", ["\0", "'", "../../x", "<b>"])
def test_a_case_that_nobody_can_have_is_not_there(environment: pytest.MonkeyPatch, database_url: str, key: str) -> None:
    environment.setenv("DATABASE_URL", database_url)
    app: Any = run("cases", alert=key)
    assert not app.exception
    assert "There is no alert with this key." in _written(app)


def test_channels_are_shown_to_who_has_a_key_and_switched(
    environment: pytest.MonkeyPatch, own_populated: Populated
) -> None:
    environment.setenv("DATABASE_URL", own_populated.database_url)
    with serving(settings_of(own_populated.database_url, own_populated.home)) as url:
        environment.setenv("TXWATCH_API_URL", url)
        wanted = {"name": "siem", "url": "https://example.org/hooks/very-secret", "secret": "s" * 32}
        added = httpx.post(
            f"{url}/v1/channels", json=wanted, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_SECONDS
        )
        assert added.status_code == 201, added.text
        app: Any = run("channels")
        assert "siem" not in _written(app)
        app.text_input(key="api_key").input(KEY).run()
        assert "siem" in _written(app)
        assert "very-secret" not in _written(app)
        assert not app.error
        app.selectbox(key="channel").select("siem").run()
        assert "It got no alert yet." in _written(app)
        _button(app, "Disable it").click().run()
        assert "siem is off" in app.success[0].value
        assert ">off</td>" in _written(app)
        app.run()
        _button(app, "Enable it").click().run()
        assert "siem is on" in app.success[0].value
        assert ">off</td>" not in _written(app)


def test_a_chat_of_telegram_is_a_channel_with_its_last_deliveries_and_a_test_button(
    environment: pytest.MonkeyPatch, own_populated: Populated
) -> None:
    environment.setenv("DATABASE_URL", own_populated.database_url)
    with connect(own_populated.database_url) as connection:
        connection.execute("INSERT INTO channels (channel) VALUES (%s) ON CONFLICT DO NOTHING", [CHAT])
        states = connection.execute(
            "SELECT state FROM alert_deliveries JOIN alerts USING (alert_key)"
            " WHERE channel = %s ORDER BY seen_at DESC, alert_key DESC LIMIT 20",
            [CHAT],
        ).fetchall()
    local = LocalTelegram()
    with TelegramServer(local) as telegram:
        settings = settings_of(own_populated.database_url, own_populated.home, TELEGRAM_API_URL=telegram.url)
        with serving(settings) as url:
            environment.setenv("TXWATCH_API_URL", url)
            app: Any = run("channels")
            app.text_input(key="api_key").input(KEY).run()
            assert "Telegram" in _written(app)
            shown = re.findall(r"<span class=\"(?:ok|unclear|bad)\">(\w+)</span>", _written(app))
            assert shown == [state for (state,) in states]
            _button(app, "Send a test message").click().run()
            assert [said.value for said in app.success] == [f"It arrived at {CHAT}."]
            local.refusals[CHAT] = (403, "Forbidden: bot was kicked from the supergroup chat")
            app.run()
            _button(app, "Send a test message").click().run()
            assert "kicked" in app.error[0].value
    assert len(local.received) == 1


def _written(app: Any) -> str:
    return "".join(html.proto.body for html in app.get("html"))


def _button(app: Any, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


@pytest.mark.parametrize("view", ["now", "anomalies", "whales", "transaction"])
def test_amounts_are_shown_in_usd_too(environment: pytest.MonkeyPatch, populated: Populated, view: str) -> None:
    environment.setenv("DATABASE_URL", populated.database_url)
    with connect(populated.database_url) as connection:
        row = connection.execute(
            "SELECT alert_key FROM alerts WHERE usd_price > 0 AND 'whale' = ANY (kinds)"
        ).fetchone()
    assert row is not None
    app = run(view, txid=row[0])
    assert not app.exception, app.exception  # type: ignore[attr-defined]
    shown = " ".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert re.search(r"BTC · [\d,.]+ (M )?USD", shown)


@pytest.mark.parametrize("view", ["now", "anomalies", "cases"])
def test_kinds_are_named_as_messages_name_them(
    environment: pytest.MonkeyPatch, populated: Populated, view: str
) -> None:
    environment.setenv("DATABASE_URL", populated.database_url)
    app = run(view)
    assert not app.exception, app.exception  # type: ignore[attr-defined]
    shown = _written(app)
    chips = set(re.findall(r'class="chip[^>]*>([^<]*)<', shown))
    assert chips & {kind.title.lower() for kind in KINDS.values()}
    assert not chips & {name for name in KINDS if name != KINDS[name].title.lower()}


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_says_why_it_is_empty(environment: pytest.MonkeyPatch, database_url: str, view: str) -> None:
    environment.setenv("DATABASE_URL", database_url)
    app = run(view)
    assert not app.exception, app.exception  # type: ignore[attr-defined]
    shown = " ".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert 'class="empty"' in shown


def test_a_drift_report_of_s3_is_shown_and_its_absence_is_said(
    environment: pytest.MonkeyPatch, server_url: str, populated: Populated
) -> None:
    import streamlit as st

    url = copied_database(server_url, database_name(populated.database_url))
    at = utc_now() + timedelta(minutes=1)
    with connect(url) as connection:
        connection.execute(
            "INSERT INTO drift_reports (computed_at, model_version, seen_from, seen_to, rows, share, drifted, features)"
            " VALUES (%(at)s, '1', %(at)s, %(at)s, 9000, 0, false, '[]')",
            {"at": at},
        )
    environment.setenv("DATABASE_URL", url)
    environment.setenv("TXWATCH_REPORTS", "s3://reports/drift")
    with s3_server("reports") as s3, using_s3(environment_of(s3)):
        page = DriftPages(S3Object("reports", "drift")).write(at, "<p>from the bucket</p>")
        app = run("drift")
        assert not app.exception, app.exception  # type: ignore[attr-defined]
        (frame,) = app.get("iframe")  # type: ignore[attr-defined]
        assert "from the bucket" in str(frame.proto)
        page.unlink()
        s3.delete_bucket(Bucket="reports")
        st.cache_data.clear()
        app = run("drift")
        assert not app.exception, app.exception  # type: ignore[attr-defined]
        assert "there is no such bucket" in app.error[0].value  # type: ignore[attr-defined]


def test_a_page_without_a_database_says_so(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    app = run("now")
    assert not app.exception  # type: ignore[attr-defined]
    assert "cannot be reached" in app.error[0].value  # type: ignore[attr-defined]


def test_stale_data_is_called_stale(environment: pytest.MonkeyPatch, database_url: str) -> None:
    environment.setenv("DATABASE_URL", database_url)
    with connect(database_url) as connection:
        take_lease(connection, "a worker that died", utc_now() - timedelta(hours=1), None)
        stale = run("feed").warning[0].value  # type: ignore[attr-defined]
        take_lease(connection, "a worker at work", utc_now(), None)
    assert stale.startswith("This data is stale: nothing came in for 60 min")
    with heartbeats(database_url):
        assert not run("feed").warning  # type: ignore[attr-defined]


def test_a_page_of_a_fixed_time_does_not_say_that_it_refreshes(
    environment: pytest.MonkeyPatch, own_populated: Populated
) -> None:
    from streamlit.testing.v1 import AppTest

    environment.setenv("DATABASE_URL", own_populated.database_url)
    with heartbeats(own_populated.database_url):
        for until, said in ((None, "Refreshes by itself."), (utc_now().replace(tzinfo=None), "Does not refresh")):
            app = AppTest.from_string(
                "from txwatch.dashboard.views import feed\nfeed.page()", default_timeout=PATIENCE_SECONDS
            )
            app.session_state["until"] = until
            shown: Any = app.run()
            assert not shown.exception
            assert any(said in caption.value for caption in shown.caption)


def test_a_time_has_its_day_unless_that_is_today() -> None:
    now = utc_now()
    assert look.clock(now) == f"{now:%H:%M:%S}"
    assert look.clock(now - timedelta(days=3)) == f"{now - timedelta(days=3):%d %b %H:%M:%S}"


@pytest.mark.parametrize(("length", "form"), [(timedelta(hours=23), "%H:%M"), (timedelta(days=7), "%d %b %H:%M")])
def test_a_chart_of_more_than_a_day_names_days(length: timedelta, form: str) -> None:
    import pandas as pd

    axis = look.utc_axis(pd.Series([utc_now() - length, utc_now()])).to_dict()
    assert axis["axis"]["format"] == form


def test_a_check_that_is_well_is_not_named_like_a_failure(
    environment: pytest.MonkeyPatch, populated: Populated
) -> None:
    from txwatch.dashboard.views.now import checked

    environment.setenv("DATABASE_URL", populated.database_url)
    with connect(populated.database_url) as connection:
        names = {check.name for check in latest_health(connection)}
    assert names
    assert {"worker", "feed", "windows"} & {checked(name) for name in names}
    assert checked(f"{CHAT_REFUSES}{CHAT}") == f"channel {CHAT}"
    shown = _written(run("now"))
    assert not [name for name in names if checked(name) != name and f"> {name.replace('_', ' ')}<" in shown]
    assert "</span> worker<" in shown


@pytest.mark.parametrize(
    ("satoshi", "text"),
    [(None, "–"), (0, "0 sat"), (99_999, "99,999 sat"), (100_000, "0.0010 BTC"), (234_102_247_681, "2,341.02 BTC")],
)
def test_amounts_are_written_for_people(satoshi: float | None, text: str) -> None:
    assert look.amount(satoshi) == text
    assert look.amount(satoshi, 68_000.0).startswith(text)


def test_amounts_are_written_in_usd_too_where_there_is_a_price() -> None:
    assert look.amount(234_102_247_681, 68_000.0) == "2,341.02 BTC · 159 M USD"
    assert look.amount(99_999, 68_000.0) == "99,999 sat · 68 USD"
    assert look.amount(None, 68_000.0) == "–"


def test_the_budget_is_of_the_hours_in_which_anything_was_heard() -> None:
    from txwatch.dashboard.span import Span
    from txwatch.dashboard.views.now import budget_used

    end, bar = utc_now(), timedelta(hours=2)
    week = Span(end - timedelta(days=7), end, bar, "in the last 7 days", None)
    heard = [TrafficSpan(end - bar * (n + 1), 1, 1, None, None, None) for n in range(3)]
    assert budget_used(12, week, heard) == "2", "six hours were heard"
    assert budget_used(336, week, heard * 28 + heard[:1]) == "2", "the bars at both ends are not whole"
    assert budget_used(0, week, []) == "–"


def test_hostile_text_is_no_markup() -> None:
    hostile = '<script>alert(1)</script>" onmouseover="x'
    shown = look.item([look.chip(hostile)], hostile) + look.table(["a"], [[hostile]]) + look.tiles((hostile,) * 3)
    assert "<script" not in shown
    assert '" onmouseover' not in shown
    assert look.link(hostile) == ""
