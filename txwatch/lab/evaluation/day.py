"""A simulated day, end to end but for the network, with a chat that plans what it would be sent.

The clock is the traffic's own: nothing waits. Beside the day with plants stands the same one without.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from txwatch.alerts.alert import Alert, ScoredTransaction, first_of_events, kind_named, raise_alerts
from txwatch.alerts.planning import (
    ChatState,
    EditAlert,
    Idle,
    Limits,
    PendingAlert,
    SendAlert,
    SendDigest,
    SentAlone,
    Wait,
    chat_free_at,
    next_step,
)
from txwatch.detection.detectors import default_detectors
from txwatch.detection.kinds import KINDS
from txwatch.detection.model import TREES, Model
from txwatch.detection.reasons import SAT
from txwatch.detection.score import Score
from txwatch.detection.training import train
from txwatch.lab.evaluation.backtest import FollowedScoring
from txwatch.lab.evaluation.examination import SEED, START
from txwatch.lab.evaluation.replay import ReplayedWindow, replay, replayed_features
from txwatch.lab.simulator.plants import label
from txwatch.lab.simulator.traffic import Simulator
from txwatch.wire.transaction import Transaction

REQUEST = timedelta(milliseconds=100)
"""What a request to Telegram takes."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sent:
    """How an alert reached the chat, and when (UTC)."""

    how: Literal["alone", "digest"]
    at: datetime


@dataclass
class PlannedChat:
    """Takes alerts in order of time. `sent` says of each, by key, how it went out; `messages` counts what was sent."""

    chat_id: str = "1"
    limits: Limits = field(default_factory=Limits)
    sent: dict[str, Sent] = field(default_factory=dict)
    messages: int = 0
    _pending: dict[str, PendingAlert] = field(default_factory=dict)
    _alone: deque[SentAlone] = field(default_factory=deque)
    _requests: deque[datetime] = field(default_factory=lambda: deque(maxlen=300))
    _last_digest: datetime | None = None
    _now: datetime | None = None

    def take(self, alerts: Iterable[Alert]) -> None:
        """Take alerts that were raised at one moment; what was due before goes out first."""
        for alert in alerts:
            self.until(alert.created_at)
            self._pending[alert.alert_key] = _pending(alert)

    def until(self, end: datetime) -> None:
        """Let time pass, and everything go out that is due until then."""
        now = self._now or end
        while now <= end:
            while self._alone and now - self._alone[0].at > _HOUR:
                self._alone.popleft()
            match next_step(self._state(), now):
                case SendAlert(key):
                    now = self._send([key], "alone", now)
                case SendDigest(keys, _):
                    now = self._send(keys, "digest", now)
                case Wait(until):
                    now = until
                case Idle() | EditAlert():
                    break
        self._now = max(now, end) if self._pending else end

    def _send(self, keys: list[str], how: Literal["alone", "digest"], now: datetime) -> datetime:
        arrived = now + REQUEST
        self.messages += 1
        self._requests.appendleft(arrived)
        for key in keys:
            alert = self._pending.pop(key)
            self.sent[key] = Sent(how, arrived)
            if how == "alone":
                self._alone.append(SentAlone(arrived, alert.kind, alert.severity))
        if how == "digest":
            self._last_digest = arrived
        return arrived

    def _state(self) -> ChatState:
        return ChatState(
            pending=list(self._pending.values()),
            free_at=chat_free_at(self.chat_id, list(self._requests), self.limits),
            sent_alone=list(self._alone),
            last_digest=self._last_digest,
        )


def _pending(alert: Alert) -> PendingAlert:
    first = alert.reasons[0] if alert.reasons else None
    amount = first.value if first is not None and (first.feature or "").endswith("_sat") else None
    return PendingAlert(
        alert.alert_key, alert.kinds[0], alert.severity, alert.late, alert.seen_at, alert.created_at, amount or 0.0
    )


PLANTS_PER_HOUR: Mapping[str, float] = {
    "fee_accident": 2.0,
    "whale": 6.0,
    "coinjoin": 12.0,
    "dormant_round_move": 1.0,
    "dust_storm": 0.5,
}
"""What is planted in the day, in events an hour: a dust storm is 20 to 60 transactions."""
LANDED_AFTER = timedelta(milliseconds=350)
"""A batch is closed 250 ms after its first transaction, and takes some time to be scored and committed."""
MUST_ARRIVE = ("fee_accident", "whale")
"""Kinds of plants of which none may be missed."""


@dataclass(frozen=True)
class DayOptions:
    """What a day depends on. `rate` in transactions a second, None for the regime's own.

    For `warm_hours` traffic goes by before training. Without them what addresses did in the trailing day still fills up
    while the model is trained, and the hours after it are unlike what it has seen: in the first one, before there are
    scores that the threshold could follow, it alerts more often than the budget says.
    """

    regime: str = "2024-03"
    hours: float = 24.0
    train_hours: float = 24.0
    warm_hours: float = 24.0
    rate: float | None = None
    alerts_per_hour: float = 12.0
    whale_btc: float = 500.0
    seed: int = SEED
    trees: int = TREES


@dataclass
class Day:
    """What was sent and what came of it."""

    options: DayOptions
    transactions: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    """The label of each plant by txid."""
    real_whales: set[str] = field(default_factory=set)
    """Plants that moved at least what a whale does."""
    storms: list[set[str]] = field(default_factory=list)
    """The transactions of each planted dust storm."""
    found: dict[str, set[str]] = field(default_factory=dict)
    """The kinds found in each transaction in which any was, tags as well; `forest` among them."""
    alerts: dict[str, Alert] = field(default_factory=dict)
    chat: PlannedChat = field(default_factory=PlannedChat)

    def planted(self, kind: str) -> set[str]:
        """The txids of the plants of a kind."""
        return {txid for txid, known in self.labels.items() if known == label(kind)}

    def undelivered(self) -> list[str]:
        """Plants of the kinds that must arrive, and did not."""
        return sorted(txid for kind in MUST_ARRIVE for txid in self.planted(kind) - self.chat.sent.keys())

    def forest_alerts_per_hour(self) -> float:
        """Alerts that the forest raised, alone or together with a detector."""
        return sum("forest" in alert.kinds for alert in self.alerts.values()) / self.options.hours

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "transactions": self.transactions,
            "hours": self.options.hours,
            "alerts": len(self.alerts),
            "alerts_per_hour": len(self.alerts) / self.options.hours,
            "forest_alerts_per_hour": self.forest_alerts_per_hour(),
            "budget": self.options.alerts_per_hour,
            "messages": self.chat.messages,
            "undelivered": self.undelivered(),
            "kinds": {kind: self._figures(kind) for kind in self._kinds()},
        }

    def _kinds(self) -> list[str]:
        seen = {kind for kinds in self.found.values() for kind in kinds}
        planted = {known.removeprefix("plant:") for known in self.labels.values()}
        return [kind for kind in KINDS if kind in seen | planted]

    def _figures(self, kind: str) -> dict[str, Any]:
        found = {txid for txid, kinds in self.found.items() if kind in kinds}
        alerted = {txid for txid in found if txid in self.alerts}
        sent = Counter(self.chat.sent[txid].how for txid in alerted if txid in self.chat.sent)
        figures: dict[str, Any] = {
            "found": len(found),
            "alerts": len(alerted),
            "sent_alone": sent["alone"],
            "in_digests": sent["digest"],
            "sent_after_s_p99": self._sent_after(alerted),
        }
        if kind == "dust_storm":
            # A storm is one event, told once.
            told = sum(bool(storm & found) for storm in self.storms)
            return figures | _rates(len(self.storms), told, len(found), len(found & self.planted(kind)))
        truth = self.real_whales if kind == "whale" else self.planted(kind)
        if not truth and label(kind) not in {label(planted) for planted in PLANTS_PER_HOUR}:
            return figures
        return figures | _rates(len(truth), len(found & truth), len(found), len(found & truth))

    def _sent_after(self, txids: set[str]) -> float | None:
        waits = [
            (self.chat.sent[txid].at - self.alerts[txid].seen_at).total_seconds()
            for txid in txids
            if txid in self.chat.sent and self.chat.sent[txid].how == "alone"
        ]
        return round(float(np.quantile(waits, 0.99)), 2) if waits else None


def evaluate_day(options: DayOptions) -> dict[str, Any]:
    """The figures of a day with plants and of one without, whose models were trained on the hours before each."""
    return {
        "plants_per_hour": dict(PLANTS_PER_HOUR),
        "with_plants": simulate_day(options, PLANTS_PER_HOUR).as_dict(),
        "without_plants": simulate_day(options, {}).as_dict(),
    }


def simulate_day(options: DayOptions, plants_per_hour: Mapping[str, float]) -> Day:
    """One day after its hours of training, which hold plants at the same rates."""
    day = Day(options)
    trains = START + timedelta(hours=options.warm_hours)
    begins = trains + timedelta(hours=options.train_hours)
    ends = begins + timedelta(hours=options.hours)
    detectors = default_detectors(whale_btc=options.whale_btc)
    before: list[NDArray[np.float64]] = []
    scoring: FollowedScoring | None = None
    told: dict[str, list[datetime]] = {}
    for window in replay(_traffic(options, plants_per_hour, day, begins, ends)):
        if window.start < trains:
            continue
        if window.start < begins:
            before.append(replayed_features([window]))
            continue
        if scoring is None:
            scoring = FollowedScoring(_trained(np.concatenate(before), begins, options), detectors)
            before.clear()
        _live_through(day, window, scoring, told)
    day.chat.until(ends + timedelta(hours=1))
    return day


def _live_through(day: Day, window: ReplayedWindow, scoring: FollowedScoring, told: dict[str, list[datetime]]) -> None:
    scores = scoring.score(window)
    day.transactions += len(scores)
    for score in scores:
        if kinds := _kinds_of(score):
            day.found[score.txid] = kinds
        if score.is_anomaly:
            now = score.seen_at + LANDED_AFTER
            alerts = first_of_events(raise_alerts([ScoredTransaction(score, "feed", scoring.model.version)], now), told)
            day.chat.take(alerts)
            for alert in alerts:
                day.alerts[alert.alert_key] = alert
                for kind in alert.kinds:
                    if kind_named(kind).one_alert_within is not None:
                        told.setdefault(kind, []).append(alert.seen_at)


def _kinds_of(score: Score) -> set[str]:
    kinds = {reason.kind for reason in score.reasons}
    return kinds | {"forest"} if score.score >= score.threshold else kinds


def _traffic(
    options: DayOptions, plants_per_hour: Mapping[str, float], day: Day, begins: datetime, ends: datetime
) -> Iterator[Transaction]:
    """The transactions as the feed would bring them, one at a time; what is planted in the day is noted."""
    simulator = Simulator(
        options.regime, seed=options.seed, start=START, rate=options.rate, plants_per_hour=plants_per_hour
    )
    last_storm: datetime | None = None
    for simulated in simulator.until(ends):
        tx = simulated.transaction("feed")
        if simulated.labels and simulated.at >= begins:
            (known,) = simulated.labels
            day.labels[tx.txid] = known
            largest = max(output.value for output in tx.outputs)
            if known in {label("whale"), label("dormant_round_move")} and largest >= options.whale_btc * SAT:
                day.real_whales.add(tx.txid)
            if known == label("dust_storm"):
                if last_storm is None or simulated.at - last_storm > timedelta(minutes=5):
                    day.storms.append(set())
                day.storms[-1].add(tx.txid)
                last_storm = simulated.at
        yield tx


def _trained(features: NDArray[np.float64], ends: datetime, options: DayOptions) -> Model:
    trained = train(
        features,
        ends - timedelta(hours=options.train_hours),
        ends,
        alerts_per_hour=options.alerts_per_hour,
        whale_btc=options.whale_btc,
        seed=7,
        trees=options.trees,
    )
    return Model("day", trained.pipeline, trained.card)


def _rates(planted: int, hit: int, found: int, right: int) -> dict[str, Any]:
    return {
        "planted": planted,
        "recall": hit / planted if planted else None,
        "precision": right / found if found else None,
    }
