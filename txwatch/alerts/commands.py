"""The bot's answers to commands in a chat, in Telegram's HTML."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from psycopg import sql

from txwatch.alerts.cases import Action, CaseError, Step, keys_beginning, take_step
from txwatch.alerts.deliveries import read_delivery_levels
from txwatch.alerts.messages import EXPLORER, DigestLine, Line, Piece, digest_line, to_html
from txwatch.alerts.samples import read_misses
from txwatch.alerts.store import Verdict, person_at_telegram, read_alerts, read_precision
from txwatch.channels.channel import WrongChannelError, terms
from txwatch.channels.quiet_hours import QuietHours
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import btc
from txwatch.foreign import clean
from txwatch.labels.flows import FlowClass
from txwatch.labels.whales import flow_totals
from txwatch.queries.alerts import FLOW_WORDS, stored_reasons
from txwatch.store.database import Connection, database_now, statement
from txwatch.store.lease import read_lease

DAY = timedelta(days=1)
MAX_MUTE_MINUTES = 7 * 24 * 60
TOP = 10
_FLOW_WORDS: Mapping[FlowClass, str] = {
    **FLOW_WORDS,
    "exchange_in": "into exchanges",
    "exchange_out": "out of exchanges",
}
_MINUTES = re.compile(r"[0-9]{1,6}")
_TXID_PREFIX = re.compile(r"[0-9a-f]{8,64}")

HELP = (
    "/status  how the system and the alerts are doing",
    "/top  the alerts of the last day that matter most",
    "/why <txid>  the score of a transaction and its reasons; its first 8 digits are enough",
    "/mute 30  only critical alerts for 30 minutes; /mute off",
    "/quiet 22:00-07:00 Europe/Berlin  the same every day; /quiet off",
    "/ack <txid>  somebody looks into it; its first 8 digits are enough, here and below",
    "/assign <txid> Alice  who looks into it",
    "/note <txid> any text  kept with the case",
    "/close <txid> useful why  or noise; /reopen <txid>",
    "/least high  only alerts from this severity on: low, medium, high or critical",
    "/kinds whale, rule:big  only alerts of these kinds and rules; /kinds all",
    "/digest 60  all but critical alerts in one message every 60 minutes; /digest off",
)


@dataclass(frozen=True)
class Person:
    """Somebody in a chat: Telegram's number, the name that others there see, and the user name, which nobody shares."""

    user_id: int
    name: str
    username: str | None = None

    @property
    def who(self) -> str:
        """As the record of changes names them. Anybody may choose any name, also @alice: so the number is beside it."""
        return f"telegram:@{self.username}" if self.username else f"telegram:{clean(self.name)} ({self.user_id})"


NOBODY = Person(0, "unknown")
"""In whose name a channel or an anonymous administrator speaks."""


@dataclass(frozen=True)
class Command:
    """What somebody asks for in a chat. Times UTC."""

    connection: Connection
    chat_id: str
    argument: str
    now: datetime
    said_at: datetime
    """May be long before now: commands wait at Telegram while no bot runs. Or after it, where this clock is late."""
    by: "Person"


Answer = Callable[[Command], list[Line]]


def answer(
    connection: Connection,
    chat_id: str,
    text: str,
    now: datetime,
    said_at: datetime | None = None,
    by: Person = NOBODY,
) -> str | None:
    """The answer to a message of `said_at`; None if it is no command."""
    if not text.startswith("/"):
        return None
    argument = "".join(text.split(maxsplit=1)[1:]).strip()
    respond = ANSWERS.get(_name(text), _help)
    return to_html(respond(Command(connection, chat_id, argument, now, said_at or now, by)))


def changes_the_chat(text: str) -> bool:
    """Whether a command changes what the chat gets, for everybody in it."""
    return _name(text) in {"/mute", "/quiet", "/least", "/kinds", "/digest"}


def named_bot(text: str) -> str:
    """The name of the bot that a command is for, as in /status@txwatch_bot; "" if it names none.

    A bot that is an administrator of a group gets the commands for other bots too.
    """
    return text.split(maxsplit=1)[0].partition("@")[2].lower()


def _name(text: str) -> str:
    return text.split(maxsplit=1)[0].partition("@")[0].lower()


def _help(_: Command) -> list[Line]:
    return [[Piece(line)] for line in HELP]


def _status(asked: Command) -> list[Line]:
    connection, now = asked.connection, asked.now
    lease, levels = read_lease(connection), read_delivery_levels(connection, now - DAY)
    if lease is None or lease.is_stale(database_now(connection)):
        feed = "⚠️ nobody follows the feed"
    else:
        behind = None if lease.committed_through is None else (now - lease.committed_through).total_seconds()
        feed = "the feed is followed" if behind is None else f"the feed is followed, {max(0.0, behind):.1f} s behind"
    latency = "" if levels.latency_ms_p50 is None else f", half of them within {levels.latency_ms_p50 / 1_000:.1f} s"
    day = f"Last day: {levels.sent} alerts sent{latency}; {levels.digested} in digests, {levels.pending} waiting"
    lines: list[Line] = [[Piece("Status", "b"), Piece(f" · {feed}")], [Piece(day)]]
    if levels.uncertain or levels.dead:
        lines.append([Piece(f"⚠️ {levels.uncertain} of uncertain delivery, {levels.dead} that can never be sent")])
    lines.extend(
        [Piece(f"{p.kind}, {p.found_by}: {p.useful} of {p.judged} judged useful ({p.share:.0%})")]
        for p in read_precision(connection, now - 30 * DAY)[:TOP]
    )
    if (misses := read_misses(connection, now - 30 * DAY, now)) is not None:
        missed, fewest, most = misses.missed_a_day
        of = f"{misses.useful} of {misses.judged} that were drawn"
        lines.append([Piece(f"missed a day: about {missed:,.0f}, between {fewest:,.0f} and {most:,.0f} ({of})")])
    row = connection.execute(
        "SELECT held_until, quiet_hours, min_severity, kinds, digest_every FROM channels WHERE channel = %s",
        [asked.chat_id],
    ).fetchone()
    held_until, quiet, least, kinds, digest_every = row or (None, None, None, None, None)
    if held_until is not None and held_until > now:
        lines.append([Piece(f"🔕 muted until {held_until:%d %b %H:%M} UTC")])
    if quiet is not None:
        lines.append([Piece(f"🌙 quiet hours {quiet}")])
    if least is not None:
        lines.append([Piece(f"only alerts from {least} on")])
    if kinds is not None:
        lines.append([Piece(f"only alerts of {', '.join(kinds)}")])
    if digest_every is not None:
        lines.append([Piece(f"🗂 a digest every {digest_every.total_seconds() / 60:.0f} minutes")])
    return lines


def _top(asked: Command) -> list[Line]:
    connection, now = asked.connection, asked.now
    rows = connection.execute(
        "SELECT alert_key, value_sat FROM alerts LEFT JOIN transactions ON txid = alert_key"
        " WHERE alerts.created_at > %s AND alert_key NOT LIKE '%%:%%'"
        " ORDER BY array_position(%s, severity) DESC, value_sat DESC NULLS LAST, alert_key LIMIT %s",
        [now - DAY, [severity.name for severity in Severity], TOP],
    ).fetchall()
    if not rows:
        return [[Piece("No alerts in the last day.")]]
    alerts = read_alerts(connection, [key for key, _ in rows])
    values: dict[str, int | None] = dict(rows)
    lines = [digest_line(DigestLine(alert, values[alert.alert_key]), now) for alert in alerts]
    flows = [
        f"{_FLOW_WORDS[total.flow]} {btc(total.moved_sat)} ({total.count})"
        for total in flow_totals(connection, now - DAY, now)
    ]
    whales = [[Piece(f"🐋 {', '.join(flows)}")]] if flows else []
    return [[Piece("Top of the last day", "b")], *lines, *whales]


def _why(asked: Command) -> list[Line]:
    prefix = asked.argument.lower()
    if not _TXID_PREFIX.fullmatch(prefix):
        return [[Piece("Say which transaction: /why and its txid, or at least the first 8 digits of it.")]]
    rows = asked.connection.execute(statement("alerts", "why"), {"from": prefix, "to": prefix + "g"}).fetchall()
    if not rows:
        return [[Piece("No such transaction was scored here.")]]
    lines: list[Line] = []
    for txid, score, threshold, unusual, reasons, version, context, seen_at in rows:
        verdict = "unusual" if unusual else "not unusual"
        lines.append([Piece(f"{txid[:8]}…{txid[-4:]}", link=EXPLORER + txid), Piece(f" · {verdict}", "b")])
        lines.append([Piece(f"score {score:.3f}, threshold {threshold:.3f} · model {version}, context {context}")])
        lines.extend([Piece(f"• {clean(reason.text)}")] for reason in stored_reasons(reasons))
        lines.append([Piece(f"seen {seen_at:%d %b %Y %H:%M:%S} UTC", "i")])
    return lines


def _step(action: Action) -> Answer:
    """What does this with the case that is named."""

    def take(asked: Command) -> list[Line]:
        prefix, rest = _first_word(asked.argument)
        keys = keys_beginning(asked.connection, prefix.lower()) if _TXID_PREFIX.fullmatch(prefix.lower()) else []
        if len(keys) != 1:
            which = "Several alerts begin with that" if keys else "There is no alert that begins with that"
            return [[Piece(f"{which}. Say its txid, or at least the first 8 digits of it.")]]
        try:
            step = _step_of(action, keys[0], rest, asked)
            take_step(asked.connection, step)
        except CaseError as problem:
            return [[Piece(str(problem))]]
        named = [Piece(f"{keys[0][:8]}…{keys[0][-4:]}", link=EXPLORER + keys[0])]
        about = clean(step.assignee or step.verdict or "")
        return [[*named, Piece(f" · {_DONE[action]} "), Piece(about, "b")]]

    return take


def _first_word(text: str) -> tuple[str, str]:
    """The first word and what follows it, whatever stands between, such as a new line."""
    word, *rest = text.split(maxsplit=1) or [""]
    return word, "".join(rest).strip()


def _step_of(action: Action, key: str, rest: str, asked: Command) -> Step:
    """Raises CaseError."""
    verdict: Verdict | None = None
    if action == "close":
        word, rest = _first_word(rest)
        if word.lower() not in get_args(Verdict):
            raise CaseError("Say useful or noise, and why if you like: /close 12ab34cd noise an exchange tidies up")
        verdict = "useful" if word.lower() == "useful" else "noise"
    assignee, text = (rest or None, None) if action == "assign" else (None, rest or None)
    return Step(key, asked.by.who, action, asked.said_at, assignee, verdict, text, _person_of(asked))


def _person_of(asked: Command) -> str:
    """Whose verdict it is. Anonymous administrators have no number: the chat in which they speak has one."""
    return f"telegram:{asked.chat_id}" if asked.by == NOBODY else person_at_telegram(asked.by.user_id)


_DONE: Mapping[Action, str] = {
    "acknowledge": "acknowledged",
    "assign": "assigned to",
    "note": "noted",
    "close": "closed as",
    "reopen": "open again",
}


def _mute(asked: Command) -> list[Line]:
    if asked.argument.lower() in {"off", "0"}:
        _set(asked, "held_until", None)
        return [[Piece("🔔 No longer muted.")]]
    minutes = int(asked.argument) if _MINUTES.fullmatch(asked.argument) else 0
    if not 1 <= minutes <= MAX_MUTE_MINUTES:
        return [[Piece(f"Say for how many minutes, 1 to {MAX_MUTE_MINUTES}: /mute 30. To end it: /mute off")]]
    until = min(asked.now, asked.said_at) + timedelta(minutes=minutes)
    _set(asked, "held_until", until)
    if until <= asked.now:
        return [[Piece(f"Those {minutes} minutes were over at {until:%d %b %H:%M} UTC: not muted.")]]
    return [[Piece(f"🔕 Only critical alerts until {until:%d %b %H:%M} UTC. The rest comes in a digest.")]]


def _quiet(asked: Command) -> list[Line]:
    if asked.argument.lower() == "off":
        _set(asked, "quiet_hours", None)
        return [[Piece("No quiet hours any more.")]]
    try:
        hours = QuietHours.parse(asked.argument)
    except ValueError as problem:
        return [[Piece(f"That cannot be read: {clean(str(problem))}.")]]
    _set(asked, "quiet_hours", str(hours))
    return [[Piece(f"🌙 Only critical alerts at {hours}. The rest comes in a digest.")]]


def _least(asked: Command) -> list[Line]:
    names, least = [severity.name for severity in Severity], asked.argument.lower()
    if least not in names:
        return [[Piece(f"Say one of: {', '.join(names)}.")]]
    _set(asked, "min_severity", None if least == names[0] else least)
    return [[Piece(f"From now on alerts from {least} on.")]]


def _kinds(asked: Command) -> list[Line]:
    named = [name for part in asked.argument.split(",") if (name := part.strip())]
    if asked.argument.lower() == "all":
        _set(asked, "kinds", None)
        return [[Piece("From now on alerts of all kinds.")]]
    try:
        kinds = terms(kinds=named).kinds
    except WrongChannelError as problem:
        return [[Piece(f"That cannot be: {clean(str(problem))}.")]]
    if kinds is None:
        return [[Piece("Say which kinds: /kinds whale, fee_accident. For all: /kinds all")]]
    _set(asked, "kinds", list(kinds))
    return [[Piece(f"From now on only alerts of {', '.join(kinds)}.")]]


def _digest(asked: Command) -> list[Line]:
    if asked.argument.lower() in {"off", "0"}:
        _set(asked, "digest_every", None)
        return [[Piece("Alerts come one by one again.")]]
    minutes = int(asked.argument) if _MINUTES.fullmatch(asked.argument) else 0
    try:
        every = terms(digest_every=timedelta(minutes=minutes)).digest_every
    except WrongChannelError as problem:
        return [[Piece(f"Say how many minutes apart: /digest 60. To end it: /digest off. {clean(str(problem))}.")]]
    _set(asked, "digest_every", every)
    return [[Piece(f"🗂 Critical alerts at once, all others in a digest every {minutes} minutes.")]]


def _set(asked: Command, column: str, value: object) -> None:
    name = sql.Identifier(column)
    asked.connection.execute(
        sql.SQL(
            "INSERT INTO channels (channel, {name}) VALUES (%s, %s)"
            " ON CONFLICT (channel) DO UPDATE SET {name} = excluded.{name}"
        ).format(name=name),
        [asked.chat_id, value],
    )


ANSWERS: dict[str, Answer] = {
    "/help": _help,
    "/start": _help,
    "/status": _status,
    "/top": _top,
    "/why": _why,
    "/ack": _step("acknowledge"),
    "/assign": _step("assign"),
    "/note": _step("note"),
    "/close": _step("close"),
    "/reopen": _step("reopen"),
    "/mute": _mute,
    "/quiet": _quiet,
    "/least": _least,
    "/kinds": _kinds,
    "/digest": _digest,
}
