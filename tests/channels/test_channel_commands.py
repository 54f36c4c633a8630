"""`txwatch channels` as somebody at a terminal uses it."""

import re
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from tests.channels.receiver import answer, receiver
from tests.databases import empty_tables
from txwatch.channels.store import list_channels
from txwatch.cli import app
from txwatch.errors import UserError
from txwatch.rules.document import read_yaml
from txwatch.rules.store import add_rule
from txwatch.store.database import Connection, connect

SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.fixture(autouse=True)
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATABASE_URL": database_url, "TXWATCH_WEBHOOK_PRIVATE": "true", "COLUMNS": "250"}.items():
        monkeypatch.setenv(name, value)
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, channels, channel_requests")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as one:
        yield one


def channels(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["channels", *arguments], input=stdin)


def done(*arguments: str, stdin: str = "") -> str:
    result = channels(*arguments, stdin=stdin)
    assert result.exception is None, result.exception
    return result.output


def refused(*arguments: str) -> str:
    error = channels(*arguments).exception
    assert isinstance(error, UserError)
    return str(error)


def test_a_webhook_is_added_tried_rotated_disabled_enabled_and_removed(connection: Connection) -> None:
    with receiver(answer(204), answer(500), answer(410)) as hook:
        said = done("add", "siem", hook.url, "--least", "high", "--kind", "whale", "--rule", "big")
        secret = re.findall(r"not shown again: (\S{43})$", said, re.MULTILINE)[0]
        assert done("test", "siem") == "It arrived at siem.\n"
        assert hook.posts[0].signed_at(secret)
        assert refused("test", "siem") == "siem: it answered 500"
        new = re.findall(r"not shown again: (\S{43})$", done("rotate", "siem"), re.MULTILINE)[0]
        assert refused("test", "siem") == "siem: it answered 410 (gone)"
        assert hook.posts[2].signed_at(secret)
        assert hook.posts[2].signed_at(new)
        listed = done("list")
        assert f"http://127.0.0.1:{hook.port}/…" in listed
        assert re.search(r"off since \S+ \S+: it answered 410 \(gone\)", listed)
        assert "high and above; whale, rule:big" in listed
        assert not any(hidden in listed for hidden in (secret, new, "of-somebody"))
        done("enable", "siem")
        assert list_channels(connection)[0].state == "on"
        done("disable", "siem")
        assert list_channels(connection)[0].state == "off"
        done("remove", "siem")
    assert "No channels" in done("list")
    assert connection.execute("SELECT count(*) FROM channel_secrets").fetchone() == (0,)


def test_a_rule_that_is_not_there_is_named_when_a_channel_asks_for_it(connection: Connection) -> None:
    empty_tables(connection, "rules")
    add_rule(connection, read_yaml("name: big\ntext: Big\nseverity: low\nwhen: moved_sat >= 1 BTC"), "somebody")
    url = "https://example.org/x"
    assert "no rule" not in done("add", "one", url, "--rule", "big", "--rule", "*")
    assert "There is no rule bgi yet: two gets its alerts once there is." in done("add", "two", url, "--rule", "bgi")


def test_a_url_may_come_from_standard_input_and_that_of_a_service_is_for_apprise(connection: Connection) -> None:
    assert "secret" not in done(
        "add", "team", "-", "--digest", "30", "--quiet", "22:00-7:00 Europe/Berlin", stdin=f"{SLACK}\n"
    )
    (team,) = list_channels(connection)
    assert (team.kind, team.shown_as, team.quiet_hours) == ("apprise", "Slack (https://…)", "22:00-07:00 Europe/Berlin")
    assert "quiet 22:00-07:00 Europe/Berlin; a digest in 30 min" in done("list")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "42", "https://example.org/x"], "begins with a letter"),
        (["add", "x", "https://user:hunter2@example.org/x"], "without a user"),
        (["add", "x", "https:///x"], "a webhook's URL looks like"),
        (["add", "x", "https://example.org/x#y"], "without a user"),
        (["add", "x", "nothing://hunter2"], "apprise cannot read the URL nothing://…"),
        (["add", "x", "hunter2"], "apprise cannot read the URL ?://…"),
        (["add", "x", "https://example.org/x", "--least", "grave"], "say one of low, medium, high, critical"),
        (["add", "x", "https://example.org/x", "--kind", "wale"], "no kind is named 'wale'"),
        (["add", "x", "https://example.org/x", "--quiet", "late"], "quiet hours look like"),
        (["add", "x", "https://example.org/x", "--digest", "30"], "digests are for people"),
        (["add", "x", "json://example.org", "--digest", "3"], "digests are 5 minutes to a day apart"),
        (["test", "nobody"], "there is no channel 'nobody'"),
        (["test", "42"], "TELEGRAM_BOT_TOKEN is not set"),
        (["disable", "nobody"], "there is no channel 'nobody'"),
        (["enable", "nobody"], "there is no channel 'nobody'"),
        (["rotate", "nobody"], "there is no webhook 'nobody'"),
        (["remove", "nobody"], "there is no channel 'nobody'"),
        (["remove", "42"], "take it out of TELEGRAM_CHAT_ID"),
    ],
)
def test_what_cannot_be_is_said_without_what_is_secret(arguments: list[str], said: str) -> None:
    answered = refused(*arguments)
    assert said in answered
    assert "hunter2" not in answered


def test_a_name_is_given_once_and_there_are_so_many_channels_at_most(connection: Connection) -> None:
    for n in range(20):
        done("add", f"one{n}", "https://example.org/x")
    assert "already, or 20 are there" in refused("add", "one1", "https://example.org/x")
    assert "already, or 20 are there" in refused("add", "another", "https://example.org/x")
    assert len(list_channels(connection)) == 20
