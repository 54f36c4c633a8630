"""What was sent against what is there: pure, so that a run's outcome can be accounted for by itself."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

from tests.soak.recorded_feed import Line, MinedBlock, SentMessage
from txwatch.lab.simulator.mempool_space import POLL_SECONDS
from txwatch.store.gaps import ALL_SOURCES

FEED, POLLED = "blockchain.info", "mempool.space"
"""The sources: of one that sends each message at once, and of one that tells what is still there at the next poll."""
HEARD_LATE = timedelta(seconds=1)
"""A message is received a little after it is sent, so a gap begins earlier for the sender."""
TOLD_LATE = timedelta(seconds=POLL_SECONDS) + HEARD_LATE
"""The same for what waits for a poll."""
MUST_ALERT = "whale", "fee_accident"
"""Planted kinds of which each that was landed must have alerted."""


class Row(NamedTuple):
    """A stored transaction: how it came, and the fingerprint of what it holds."""

    source: str
    fingerprint: int


class GapRow(NamedTuple):
    """A recorded gap. UTC; an end of None is of one that lasts."""

    started_at: datetime
    ended_at: datetime | None
    cause: str
    state: str
    source: str


@dataclass
class Ledger:
    """What became of all that was sent. Lists name txids, or bodies of malformed messages; each but `lost_for_ever`
    and `unheard_malformed` must be empty."""

    sent: int = 0
    repeated: int = 0
    transactions: int = 0
    malformed: int = 0
    mined: int = 0
    from_feed: int = 0
    from_blocks: int = 0
    quarantined: int = 0
    missed_in_gaps: int = 0
    never_mined: list[str] = field(default_factory=list)
    """Sent in a recorded gap, and replaced before a block took them: nobody can have them."""
    not_recovered: list[str] = field(default_factory=list)
    """Sent in a recorded gap and mined, and not there all the same."""
    lost: list[str] = field(default_factory=list)
    """Sent while no gap was recorded, and not there."""
    not_sent: list[str] = field(default_factory=list)
    """There, and never sent."""
    changed: list[str] = field(default_factory=list)
    """There, but not as they were sent."""
    sighted: dict[str, int] = field(default_factory=dict)
    """How many transactions each source told."""
    unsighted: list[str] = field(default_factory=list)
    """Told by a source while it had no gap, and not noted as seen there."""
    unheard_malformed: list[str] = field(default_factory=list)
    """Malformed messages that were sent in a gap, and so never heard."""
    lost_malformed: list[str] = field(default_factory=list)
    wrongly_quarantined: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    """Planted whales and fee accidents that are there and did not alert."""
    gaps_by_state: dict[str, int] = field(default_factory=dict)
    gaps_by_cause: dict[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> dict[str, list[str]]:
        """Everything that must not be, by name; empty when all is accounted for."""
        names = "not_recovered", "lost", "not_sent", "changed", "unsighted"
        names += "lost_malformed", "wrongly_quarantined", "unmarked"
        return {name: getattr(self, name)[:20] for name in names if getattr(self, name)}


def account(
    lines: Sequence[Line],
    rows: Mapping[str, Row],
    gaps: Sequence[GapRow],
    quarantined: Sequence[str],
    alert_kinds: Mapping[str, Collection[str]],
    sighted: Mapping[str, Collection[str]],
) -> Ledger:
    """Account for every message.

    `rows` holds what did not come with the history, `alert_kinds` is by alert key; `sighted` has the txids that each
    source that was followed has told.
    """
    messages = [line for line in lines if isinstance(line, SentMessage)]
    mined = {txid for line in lines if isinstance(line, MinedBlock) for txid in line.txids}
    first = {message.txid: message for message in reversed(messages) if message.txid is not None}
    malformed = {message.body: message for message in messages if message.txid is None}
    ledger = Ledger(
        sent=len(messages),
        repeated=len(messages) - len(first) - len(malformed),
        transactions=len(first),
        malformed=len(malformed),
        mined=len(mined),
        from_feed=sum(row.source == "feed" for row in rows.values()),
        from_blocks=sum(row.source == "block" for row in rows.values()),
        quarantined=len(quarantined),
        gaps_by_state=dict(Counter(gap.state for gap in gaps)),
        gaps_by_cause=dict(Counter(_kind_of(gap.cause) for gap in gaps)),
        sighted={source: len(told) for source, told in sighted.items()},
    )
    told = {source: _Told(source, lines, gaps) for source in sighted}
    for txid, message in first.items():
        row = rows.get(txid)
        if row is not None:
            if row.fingerprint not in message.rows:
                ledger.changed.append(txid)
        elif any(source.told(message) or source.told_later(message) for source in told.values()):
            ledger.lost.append(txid)
        elif txid in mined:
            ledger.not_recovered.append(txid)
        else:
            ledger.never_mined.append(txid)
        for name, source in told.items():
            if source.told(message) and txid not in sighted[name]:
                ledger.unsighted.append(txid)
    ledger.not_sent = sorted({*rows, *chain(*sighted.values())} - first.keys())
    ledger.missed_in_gaps = ledger.from_blocks + len(ledger.never_mined) + len(ledger.not_recovered)
    times = Counter(quarantined)
    ledger.wrongly_quarantined = [body for body, count in times.items() if body not in malformed or count > 1]
    for body, message in malformed.items():
        if body not in times:
            heard = FEED in told and not told[FEED].gaps_at(message.at)
            (ledger.lost_malformed if heard else ledger.unheard_malformed).append(body)
    ledger.unmarked = unmarked(lines, rows, alert_kinds)
    return ledger


def unmarked(lines: Sequence[Line], rows: Collection[str], alert_kinds: Mapping[str, Collection[str]]) -> list[str]:
    """The planted whales and fee accidents that were landed and have no alert of their kind."""
    return [
        message.txid
        for message in lines
        if isinstance(message, SentMessage) and message.txid is not None and message.txid in rows
        for kind in MUST_ALERT
        if any(label.endswith(kind) for label in message.labels) and kind not in alert_kinds.get(message.txid, ())
    ]


class _Told:
    """What one source must have told of what was sent."""

    def __init__(self, source: str, lines: Sequence[Line], gaps: Sequence[GapRow]) -> None:
        self._is_polled = source == POLLED
        self._late = TOLD_LATE if self._is_polled else HEARD_LATE
        self._gaps = [gap for gap in gaps if gap.source in {source, ALL_SOURCES}]
        self._left_at: dict[str, datetime] = {}
        """When a transaction was mined or replaced, and so is told by no later poll."""
        for line in lines:
            for txid in line.txids if isinstance(line, MinedBlock) else ():
                self._left_at.setdefault(txid, line.at)
            if isinstance(line, SentMessage) and line.replaces is not None:
                self._left_at.setdefault(line.replaces, line.at)

    def gaps_at(self, at: datetime) -> list[GapRow]:
        """The gaps for which what was sent then need not have been heard."""
        return [
            gap for gap in self._gaps if gap.started_at - self._late <= at and (not gap.ended_at or at <= gap.ended_at)
        ]

    def told(self, message: SentMessage) -> bool:
        """Whether it was told while the source was heard."""
        return not self.gaps_at(message.at) and self._is_there(message, message.at + TOLD_LATE)

    def told_later(self, message: SentMessage) -> bool:
        """Whether it was still in the mempool that was read at the end of a gap."""
        gaps = self.gaps_at(message.at) if self._is_polled else []
        ends = [gap.ended_at for gap in gaps if gap.ended_at is not None]
        return 0 < len(gaps) == len(ends) and self._is_there(message, max(ends) + HEARD_LATE)

    def _is_there(self, message: SentMessage, until: datetime) -> bool:
        if not self._is_polled:
            return True
        # Of one that replaces another the miners may have kept that one: it is in no mempool then.
        left_at = self._left_at.get(message.txid or "")
        return message.replaces is None and (left_at is None or left_at > until)


def _kind_of(cause: str) -> str:
    """A cause without the numbers in it."""
    return "".join("n" if letter.isdigit() else letter for letter in cause.split(":")[0])[:60]
