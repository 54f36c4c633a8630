"""Watch the system: check it, and record each check. What fails is a condition (`conditions.py`), which is told."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from txwatch.alerts.alert import present_id
from txwatch.alerts.bot import BotStatus, read_bot_status
from txwatch.alerts.conditions import Condition, LastAlert, State
from txwatch.archive.days import Troubles, archive_troubles
from txwatch.channels.channel import is_chat
from txwatch.clock import WINDOW, parse_window_key, window_key
from txwatch.rules.store import list_rules
from txwatch.store.capacity import SOON, Disk, Kept, read_disks
from txwatch.store.database import Connection, statement
from txwatch.store.lease import Lease, read_lease

WORKER_ABSENT = timedelta(seconds=90)
"""Longer than a handover: a new run is asked for after 15 s, and needs some seconds to start."""
FEED_SILENT = timedelta(seconds=90)
"""Longer than by chance, and than a dead connection, which is found after 30 s and made anew."""
LANDING_LAG = timedelta(seconds=5)
MIN_WORKER_AGE = timedelta(minutes=1)
"""A younger worker may lag: it has a backlog to land, and shares the machine with all else that starts."""
WINDOW_UNSCORED = timedelta(minutes=15)
BOT_DEAF = timedelta(minutes=1)
"""A bot that is replaced by another of the same token gets no updates for some seconds."""
BOT_FORGOTTEN = timedelta(minutes=15)
"""A bot without updates records that every five minutes; after this no bot runs any more."""
DISK_FREE_SHARE = 0.05
MAX_CAUSE = 500
RUN_FAILED = "run_failed"
CHAT_REFUSES = "chat_refuses:"
RULE_OFF = "rule_off:"


@dataclass(frozen=True)
class Health:
    """What was found. Times UTC, None for never or unknown."""

    lease: Lease | None
    landing_lag: timedelta | None
    """99 % of the last minute's live transactions were durable within this."""
    dead_letters: int
    """Deliveries that were refused for good in the last hour."""
    dead_reason: str | None
    disk_free_share: float
    chats: Mapping[str, tuple[datetime, str] | None] = field(default_factory=dict)
    """The channels that get the alerts, each with since when it takes no messages and why, or None."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Ids that refused messages when they were checked last and get no alerts any more, each with the chat's present
    one."""
    bot: BotStatus | None = None
    """None if no bot ever ran."""
    rules_off: Mapping[str, tuple[datetime, str]] = field(default_factory=dict)
    """Rules that were switched off because they cannot be followed, each with when and why."""
    rules_mended: Sequence[str] = ()
    """Rules of which that was so when they were checked last."""
    archive: Troubles | None = None
    """None where there is no archive."""
    disks: Sequence[Disk] = ()
    """Those of this machine that hold database or archive, once there is something to measure."""


def read_health(
    connection: Connection, home: Path, now: datetime, chats: Sequence[str] = (), kept: Kept | None = None
) -> Health:
    """Check the database, the disk that holds the state, the messages to these chats and to other channels.

    By what is `kept`, also what the disks will hold, and whether an archive has the days that it should have.
    """
    [(lag_seconds, dead, reason)] = connection.execute(statement("alerts", "health"), {"now": now})
    chats = [present_id(connection, chat_id) for chat_id in chats]
    # One that its own answer disabled still counts; of one that somebody disabled nothing is expected.
    served = connection.execute(
        "SELECT channel, refused_since, refusal FROM channels"
        " WHERE channel = ANY(%s) OR kind <> 'telegram' AND (disabled_at IS NULL OR refused_since IS NOT NULL)",
        [chats],
    )
    refusals = {channel: since and (since, str(why)) for channel, since, why in served}
    chats = list(dict.fromkeys([*chats, *refusals]))
    former = _found_wrong(connection, CHAT_REFUSES)
    off = {one.name: (one.changed_at, one.reason) for one in list_rules(connection) if one.reason is not None}
    disk = shutil.disk_usage(home if home.exists() else Path.cwd())
    return Health(
        lease=read_lease(connection),
        landing_lag=None if lag_seconds is None else timedelta(seconds=lag_seconds),
        dead_letters=dead,
        dead_reason=reason,
        disk_free_share=disk.free / disk.total,
        chats={chat_id: refusals.get(chat_id) for chat_id in chats},
        left={chat_id: present_id(connection, chat_id) for chat_id in former if chat_id not in chats},
        bot=read_bot_status(connection),
        rules_off=off,
        rules_mended=[name for name in _found_wrong(connection, RULE_OFF) if name not in off],
        archive=archive_troubles(connection, now) if kept and kept.archive is not None else None,
        disks=read_disks(connection, kept) if kept else (),
    )


def _found_wrong(connection: Connection, prefix: str) -> list[str]:
    """What follows the prefix in the names of checks that found something wrong when they were made last."""
    wrong = connection.execute(statement("alerts", "select_wrong"), {"prefix": prefix})
    return [name.removeprefix(prefix) for (name,) in wrong]


def conditions(health: Health, now: datetime) -> list[Condition]:
    """What is wrong and what is well, from what was found."""
    return [
        _worker(health.lease, now),
        _feed(health, now),
        _landing(health, now),
        _dead_letters(health),
        _disk(health),
        _disks(health.disks, now),
        *([_archive(health.archive)] if health.archive is not None else []),
        *([_bot(health.bot, now)] if any(map(is_chat, health.chats)) else []),
        *(_channel(channel, refusal) for channel, refusal in health.chats.items()),
        *(_left(chat_id, present) for chat_id, present in health.left.items()),
        *(_rule_off(name, at, why) for name, (at, why) in health.rules_off.items()),
        *(Condition(RULE_OFF + name, State.well, f"Rule {name} was changed") for name in health.rules_mended),
    ]


def windows_condition(unscored: Iterable[str], now: datetime) -> Condition:
    """Whether sealed windows, by key, have stayed without scores."""
    overdue = sorted(key for key in unscored if now - (parse_window_key(key) + WINDOW) > WINDOW_UNSCORED)
    if not overdue:
        return Condition("windows_failed", State.well, "All sealed windows are scored")
    count = "1 sealed window has" if len(overdue) == 1 else f"{len(overdue):,} sealed windows have"
    text = f"{count} no scores, the oldest is {overdue[0]} UTC"
    since = parse_window_key(overdue[0])
    return Condition("windows_failed", State.wrong, f"{text}: see the runs of score_windows", since)


def unscored_windows(sealed: Iterable[str], scored: Iterable[str], now: datetime) -> set[str]:
    """The sealed windows of the last day without scores, by key."""
    oldest = window_key(now - timedelta(days=1))
    return {key for key in sealed if key >= oldest} - set(scored)


def drift_condition(drifted: Sequence[bool], share: float, found_at: datetime, persists: int) -> Condition:
    """Whether traffic stays unlike what the champion was trained on. `drifted` are its reports, newest first.

    One report that finds drift may be an unusual hour; one that finds none ends it. `share` of the features drifted in
    the newest one, of `found_at`.
    """
    if drifted and not drifted[0]:
        return Condition("drift", State.well, "Traffic is again like that which the champion was trained on")
    if len(drifted) < persists or not all(drifted[:persists]):
        return Condition("drift", State.unknown)
    text = (
        f"Traffic has drifted: {persists} reports in a row found it unlike what the champion was trained on, the last"
        f" in {share:.0%} of the features. Training is asked for; see drift_report"
    )
    return Condition("drift", State.wrong, text, found_at)


def failed_run(job: str, run_id: str, cause: str, failed_at: datetime) -> Condition:
    """The condition of a job whose run failed."""
    text = f"A run of {job} failed ({run_id[:8]}): {cause[:MAX_CAUSE] or 'no cause was given'}"
    return Condition(f"{RUN_FAILED}:{job}", State.wrong, text, failed_at)


def failed_jobs(raised: Mapping[str, LastAlert]) -> dict[str, LastAlert]:
    """The jobs with a standing alert of a failure, each with that alert."""
    prefix = f"{RUN_FAILED}:"
    return {name.removeprefix(prefix): r for name, r in raised.items() if r.standing and name.startswith(prefix)}


def succeeded_job(job: str) -> Condition:
    """The condition of a job that succeeded after a failure."""
    return Condition(f"{RUN_FAILED}:{job}", State.well, f"{job} succeeds again")


def _worker(lease: Lease | None, now: datetime) -> Condition:
    if lease is None:
        return Condition("lease_stale", State.unknown)
    if not lease.is_stale(now):
        return Condition("lease_stale", State.well, "The feed is followed again")
    since = lease.released_at or lease.heartbeat_at
    if abs(now - since) <= WORKER_ABSENT:
        return Condition("lease_stale", State.unknown)
    text = f"Nobody follows the feed: {lease.holder} was last heard at {since:%H:%M:%S} UTC"
    return Condition("lease_stale", State.wrong, text, since)


def _feed(health: Health, now: datetime) -> Condition:
    if health.lease is None or health.lease.is_stale(now):
        # That no worker listens is an alert of its own.
        return Condition("feed_silent", State.unknown)
    heard_at = health.lease.heard_at
    since = max(filter(None, (heard_at, health.lease.acquired_at)))
    if now - since > FEED_SILENT:
        silent = (now - since).total_seconds()
        text = f"The feed is silent: nothing for {silent:.0f} s, since {since:%H:%M:%S} UTC"
        return Condition("feed_silent", State.wrong, text, since)
    if heard_at is None or heard_at < now - FEED_SILENT:
        return Condition("feed_silent", State.unknown)
    return Condition("feed_silent", State.well, "The feed is heard again")


def _landing(health: Health, now: datetime) -> Condition:
    if health.landing_lag is None or health.lease is None or now - health.lease.acquired_at <= MIN_WORKER_AGE:
        return Condition("landing_lag", State.unknown)
    if health.landing_lag > LANDING_LAG:
        seconds = health.landing_lag.total_seconds()
        return Condition("landing_lag", State.wrong, f"Landing lags: 1 % of transactions take over {seconds:.0f} s")
    return Condition("landing_lag", State.well, "Landing is fast again")


def _dead_letters(health: Health) -> Condition:
    if health.dead_letters:
        text = f"{health.dead_letters} alerts of the last hour can never be sent: {health.dead_reason}"
        return Condition("dead_letters", State.wrong, text)
    return Condition("dead_letters", State.well, "For an hour no alert was one that can never be sent")


def _bot(status: BotStatus | None, now: datetime) -> Condition:
    name = "bot_hears_nothing"
    if status is None:
        return Condition(name, State.unknown)
    if status.deaf_since is None:
        return Condition(name, State.well, "The bot hears commands and buttons again")
    if status.noted_at - status.deaf_since < BOT_DEAF or now - status.noted_at > BOT_FORGOTTEN:
        return Condition(name, State.unknown)
    text = f"The bot hears no commands and no buttons since {status.deaf_since:%d %b %H:%M} UTC: {status.reason}"
    return Condition(name, State.wrong, text, status.deaf_since)


def _named(channel: str) -> str:
    return f"{'Chat' if is_chat(channel) else 'Channel'} {channel}"


def _channel(channel: str, refusal: tuple[datetime, str] | None) -> Condition:
    name = f"{CHAT_REFUSES}{channel}"
    if refusal is None:
        return Condition(name, State.well, f"{_named(channel)} takes messages again")
    since, why = refusal
    text = f"{_named(channel)} takes no messages since {since:%d %b %H:%M} UTC: {why[:MAX_CAUSE]}. Its alerts wait"
    return Condition(name, State.wrong, text, since)


def _left(chat_id: str, present: str) -> Condition:
    became = "gets no alerts any more" if present == chat_id else f"is {present} now"
    return Condition(f"{CHAT_REFUSES}{chat_id}", State.well, f"{_named(chat_id)} {became}")


def _rule_off(name: str, at: datetime, why: str) -> Condition:
    text = f"Rule {name} was switched off, for it cannot be followed: {why[:MAX_CAUSE]}. Correct it and add it again"
    return Condition(RULE_OFF + name, State.wrong, text, at)


def _disk(health: Health) -> Condition:
    if health.disk_free_share < DISK_FREE_SHARE:
        return Condition("disk_full", State.wrong, f"The disk is nearly full: {health.disk_free_share:.1%} is free")
    return Condition("disk_full", State.well, "The disk has room again")


def _disks(disks: Sequence[Disk], now: datetime) -> Condition:
    if not disks:
        return Condition("disk_fills", State.unknown)
    if soon := sorted((disk for disk in disks if disk.is_full_soon), key=lambda disk: disk.full_in):
        return Condition("disk_fills", State.wrong, f"A disk will be full: {soon[0].text(now)}")
    return Condition("disk_fills", State.well, f"No disk will be full within {SOON.days} days")


def _archive(troubles: Troubles) -> Condition:
    if not troubles.texts:
        return Condition("archive", State.well, "The archive has every day that it should have")
    return Condition("archive", State.wrong, f"Archive: {'; '.join(troubles.texts)[:MAX_CAUSE]}")


KEEP_UNCHANGED_EVERY = timedelta(minutes=5)
KEEP_FOR = timedelta(days=30)


def record_health(connection: Connection, found: Sequence[Condition], now: datetime) -> int:
    """Keep each result that differs from the last one of its check, or if that is old. Returns how many.

    Safe to repeat: the same moment again keeps nothing. Results older than KEEP_FOR are deleted, and those of the
    future, from before the clock was set back: they would be taken for the last ones.
    """
    connection.execute("DELETE FROM health_checks WHERE checked_at < %s OR checked_at > %s", [now - KEEP_FOR, now])
    return connection.execute(
        "INSERT INTO health_checks (checked_at, name, state, text)"
        " SELECT %(now)s, found.name, found.state, found.text"
        " FROM unnest(%(names)s::text[], %(states)s::text[], %(texts)s::text[]) AS found (name, state, text)"
        " LEFT JOIN LATERAL (SELECT state, checked_at FROM health_checks AS kept WHERE kept.name = found.name"
        " ORDER BY checked_at DESC LIMIT 1) AS last ON true"
        " WHERE last.state IS DISTINCT FROM found.state OR last.checked_at <= %(oldest)s",
        {
            "now": now,
            "oldest": now - KEEP_UNCHANGED_EVERY,
            "names": [condition.name for condition in found],
            "states": [condition.state.value for condition in found],
            "texts": [condition.text for condition in found],
        },
    ).rowcount
