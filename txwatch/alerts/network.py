"""Watch the network itself: a burst of arrivals, a jump of the fee rate, no block, a flood of one pattern.

Each is a condition (`conditions.py`): one alert while it lasts. What is usual is the day before it began, or the hour
for a pattern, as the same sources told it; so it stands until the figure has come back, a day at most, after which it
is usual itself. The spans end where all is landed. Nothing is said of spans in which no source was heard, nor shortly
after: what waits in a mempool comes at once then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from txwatch.alerts.conditions import Condition, LastAlert, State
from txwatch.alerts.messages import duration
from txwatch.clock import WINDOW
from txwatch.detection.reasons import btc, times
from txwatch.features.network import read_network_context
from txwatch.store.database import Connection, scalar, statement
from txwatch.store.lease import read_lease

SPAN = timedelta(minutes=10)
"""In which arrivals, fee rates and patterns are counted."""
SETTLED_AFTER = timedelta(minutes=5)
"""Of being heard again, before a span counts."""
NOTED_WITHIN = timedelta(minutes=1)
"""How recently a source that is followed was noted."""
USUAL_WINDOWS = 12
"""Windows that the day before must hold at least: an hour."""
USUAL_AGE = timedelta(hours=1)
"""Of the newest baseline, at most."""
LASTS_AT_MOST = timedelta(days=1)


@dataclass(frozen=True)
class Limits:
    """From which multiple of the usual on, and how much above it at least, a condition stands; and down to which."""

    begins: float
    ends: float
    more: float = 0.0


BURST = Limits(2.5, 1.5)
"""A day varies by 2 at most, and counts of ten minutes by 4 % on top: real arrivals have 5 times Poisson's variance."""
FEE_JUMP = Limits(3.0, 1.5, more=5.0)
"""In sat/vB: from 1 to 3 is no news."""
FLOOD = Limits(5.0, 2.5)
FLOOD_SHARE = Limits(0.2, 0.1)
"""Of all arrivals."""
FLOOD_LEAST = 300
"""Transactions in SPAN."""
NO_BLOCK = timedelta(hours=1)
"""One block in 400 takes longer: about one in three days."""


class Fingerprint(NamedTuple):
    """What transactions of one making share: their counts, and the first output's type and value (satoshi)."""

    inputs: int
    outputs: int
    type: str
    value: int

    @property
    def name(self) -> str:
        """For the key of an alert."""
        return "-".join(map(str, self))

    @property
    def words(self) -> str:
        first = "a message" if self.type == "op_return" else f"{btc(self.value)} to {self.type}"
        return f"{self.inputs:,} in, {self.outputs:,} out, {first} first"

    @classmethod
    def named(cls, name: str) -> "Fingerprint":
        inputs, outputs, type_, value = name.split("-")
        return cls(int(inputs), int(outputs), type_, int(value))


@dataclass(frozen=True)
class Measured:
    """A figure of the last SPAN, and what is usual. None where either is not known."""

    now: float | None
    usual: float | None


@dataclass(frozen=True)
class Network:
    """What was found, of spans that end `at` (UTC)."""

    at: datetime
    arrivals: Measured
    """Transactions a second."""
    fee_rate: Measured
    """Median, sat/vB."""
    patterns: Mapping[Fingerprint, Measured]
    """Transactions in SPAN."""
    block: tuple[int, datetime] | None = None
    """Height of the newest block, and when it was announced. None if one may have been missed."""


def network_conditions(found: Network, raised: Mapping[str, LastAlert]) -> list[Condition]:
    """What lasts and what is over. `raised` holds the last alert of each condition by name."""
    standing = {name: last for name, last in raised.items() if last.standing}
    return [
        _burst(found, standing.get("arrival_burst")),
        _fee_jump(found, standing.get("fee_rate_jump")),
        _no_block(found, standing.get("no_block")),
        *_floods(found, standing),
    ]


def _compared(
    kind: str, found: Network, measured: Measured, limits: Limits, standing: LastAlert | None, text: str, well: str
) -> Condition:
    """The condition of a figure: until it has stood for LASTS_AT_MOST, it begins and ends by the multiple."""
    if measured.now is None or not measured.usual:
        return Condition(kind, State.unknown, kind=kind)
    if standing is not None and found.at - standing.since > LASTS_AT_MOST:
        return Condition(kind, State.well, f"it is usual by now. {well}", kind=kind)
    over = measured.now / measured.usual
    begins = over >= limits.begins and measured.now - measured.usual >= limits.more
    if begins or (standing is not None and over > limits.ends):
        return Condition(kind, State.wrong, text, found.at - SPAN, kind)
    return Condition(kind, State.well, well, kind=kind)


def _burst(found: Network, standing: LastAlert | None) -> Condition:
    now, usual = found.arrivals.now or 0.0, found.arrivals.usual or 1.0
    text = f"{now:,.1f} transactions a second arrive, {times(now / usual)} the usual {usual:,.1f}"
    return _compared("arrival_burst", found, found.arrivals, BURST, standing, text, f"{now:,.1f} a second arrive")


def _fee_jump(found: Network, standing: LastAlert | None) -> Condition:
    now, usual = found.fee_rate.now or 0.0, found.fee_rate.usual or 1.0
    text = f"half of the transactions pay {now:,.1f} sat/vB or more, {times(now / usual)} the usual {usual:,.1f}"
    well = f"half of them pay {now:,.1f} sat/vB or more"
    return _compared("fee_rate_jump", found, found.fee_rate, FEE_JUMP, standing, text, well)


def _no_block(found: Network, standing: LastAlert | None) -> Condition:
    if found.block is None:
        return Condition("no_block", State.unknown, kind="no_block")
    height, announced = found.block
    if found.at - announced >= NO_BLOCK:
        text = f"no block for {duration(found.at - announced)}, since block {height:,} at {announced:%H:%M} UTC"
        return Condition("no_block", State.wrong, text, announced, "no_block")
    took = "" if standing is None else f", {duration(announced - standing.since)} after the one before"
    return Condition("no_block", State.well, f"block {height:,} came{took}", kind="no_block")


def _floods(found: Network, standing: Mapping[str, LastAlert]) -> Iterator[Condition]:
    for pattern, measured in found.patterns.items():
        name = f"pattern_flood:{pattern.name}"
        last = standing.get(name)
        if measured.now is None or measured.usual is None or not found.arrivals.now:
            continue
        count, usual = measured.now, max(measured.usual, 1.0)
        share = count / (found.arrivals.now * SPAN.total_seconds())
        is_large = share > FLOOD_SHARE.ends if last else share >= FLOOD_SHARE.begins
        text = (
            f"{count:,.0f} transactions of one pattern in {duration(SPAN)}, {share:.0%} of all, {times(count / usual)}"
            f" as many as before: {pattern.words}"
        )
        well = f"{count:,.0f} of the pattern in {duration(SPAN)}"
        told = _compared("pattern_flood", found, Measured(count if is_large else 0.0, usual), FLOOD, last, text, well)
        yield Condition(name, told.state, told.text, told.since, told.kind)


def read_network(connection: Connection, raised: Mapping[str, LastAlert], now: datetime) -> Network | None:
    """What the feed shows now, by the database's clock. None while nobody follows it.

    What is usual is that of before a condition that stands.
    """
    lease = read_lease(connection)
    if lease is None or lease.is_stale(now) or lease.watermark is None:
        return None
    at = min(now, lease.watermark)
    nothing = Measured(None, None)
    block = _newest_block(connection, at)
    if not _heard(connection, at - SPAN - SETTLED_AFTER, at):
        return Network(at, nothing, nothing, {}, block)
    given = {"since": at - SPAN, "at": at}
    [(count, median)] = connection.execute(statement("alerts", "arrivals"), given)
    return Network(
        at,
        Measured(count / SPAN.total_seconds(), _usual(connection, raised.get("arrival_burst"), at).arrivals),
        Measured(median, _usual(connection, raised.get("fee_rate_jump"), at).fee_rate),
        _patterns(connection, raised, at, count),
        block,
    )


class _Usual(NamedTuple):
    arrivals: float | None
    fee_rate: float | None


def _usual(connection: Connection, last: LastAlert | None, at: datetime) -> _Usual:
    before = _before(last, at - SPAN)
    query = "SELECT max(window_start) FROM network_baseline WHERE window_start <= %s AND window_start > %s"
    as_of = scalar(connection, query, [before - WINDOW, before - WINDOW - USUAL_AGE])
    if as_of is None:
        return _Usual(None, None)
    context = read_network_context(connection, as_of)
    if context.windows_24h < USUAL_WINDOWS:
        return _Usual(None, None)
    return _Usual(context.tx_count_24h / (context.windows_24h * WINDOW.total_seconds()), context.median_fee_rate_24h)


def _before(last: LastAlert | None, otherwise: datetime) -> datetime:
    """When a condition that stands began, else this moment."""
    return last.since if last is not None and last.standing else otherwise


def _patterns(
    connection: Connection, raised: Mapping[str, LastAlert], at: datetime, arrived: float
) -> dict[Fingerprint, Measured]:
    """The patterns that are many now, and those of the floods that stand."""
    given = {"since": at - SPAN, "at": at, "least": max(FLOOD_LEAST, FLOOD_SHARE.begins * arrived)}
    began = {
        Fingerprint(*row): at - SPAN for row in connection.execute(statement("alerts", "frequent_patterns"), given)
    }
    for name, last in raised.items():
        kind, _, pattern = name.partition(":")
        if kind == "pattern_flood" and last.standing:
            began[Fingerprint.named(pattern)] = last.since
    return {pattern: _count(connection, pattern, moment, at) for pattern, moment in began.items()}


def _count(connection: Connection, pattern: Fingerprint, began: datetime, at: datetime) -> Measured:
    hour = timedelta(hours=1)
    given = {**pattern._asdict(), "since": at - SPAN, "at": at, "hour_before": began - hour, "began": began}
    [(count, usual)] = connection.execute(statement("alerts", "count_pattern"), given)
    is_known = _heard(connection, began - hour, began)
    return Measured(count, usual * (SPAN / hour) if is_known else None)


def _newest_block(connection: Connection, at: datetime) -> tuple[int, datetime] | None:
    row = connection.execute(
        "SELECT height, seen_at FROM blocks WHERE NOT stale AND seen_at <= %s ORDER BY seen_at DESC LIMIT 1", [at]
    ).fetchone()
    return None if row is None or not _heard(connection, row[1], at, but_for="recovered") else (row[0], row[1])


def _heard(connection: Connection, since: datetime, at: datetime, but_for: str = "") -> bool:
    """Whether a source was followed all the time, and some was heard; gaps of one state do not count."""
    followed = "SELECT EXISTS (SELECT FROM feed_sources WHERE followed_since <= %s AND noted_at >= %s)"
    return bool(scalar(connection, followed, [since, at - NOTED_WITHIN])) and bool(
        scalar(connection, "SELECT isempty(unheard(%s, %s, %s))", [since, at, but_for])
    )
