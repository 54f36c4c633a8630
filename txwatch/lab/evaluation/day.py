"""A simulated day, with plants and without: from traffic to messages of a chat, on the traffic's own clock."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from txwatch.alerts.alert import Alert, ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import Campaigns
from txwatch.alerts.planning import (
    ChannelState,
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
from txwatch.detection.kinds import KINDS
from txwatch.detection.model import TREES, Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.training import train
from txwatch.features.batch import Floats, WindowFeatures
from txwatch.lab.evaluation.backtest import FollowedRules, FollowedScoring
from txwatch.lab.evaluation.evaluate import REAL_MOVES, largest_output
from txwatch.lab.evaluation.examination import SEED, START
from txwatch.lab.evaluation.replay import replay
from txwatch.lab.simulator.plants import label
from txwatch.lab.simulator.traffic import Simulator
from txwatch.rules.evaluate import RuleSet
from txwatch.rules.rule import Rule
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.transaction import Transaction

REQUEST = timedelta(milliseconds=100)
"""What a request to Telegram takes."""


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
            first = alert.reasons[0] if alert.reasons else None
            amount = first.value if first is not None and (first.feature or "").endswith("_sat") else None
            key, kind = alert.alert_key, alert.kinds[0]
            self._pending[key] = PendingAlert(
                key, kind, alert.severity, alert.late, alert.seen_at, alert.created_at, amount or 0.0
            )

    def until(self, end: datetime) -> None:
        """Let time pass, and everything go out that is due until then."""
        now = self._now or end
        while now <= end:
            while self._alone and now - self._alone[0].at > timedelta(hours=1):
                self._alone.popleft()
            state = ChannelState(
                pending=list(self._pending.values()),
                free_at=chat_free_at(self.chat_id, list(self._requests), self.limits),
                sent_alone=list(self._alone),
                last_digest=self._last_digest,
            )
            match next_step(state, now):
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


PLANTS_PER_HOUR = {"fee_accident": 2.0, "whale": 6.0, "coinjoin": 12.0, "dormant_round_move": 1.0, "dust_storm": 0.5}
"""What is planted in the day, in events an hour: a dust storm is 20 to 60 transactions."""
LANDED_AFTER = timedelta(milliseconds=350)
"""A batch is closed 250 ms after its first transaction, and takes some time to be scored and committed."""
MUST_ARRIVE = ("fee_accident", "whale")
"""Kinds of plants of which none may be missed."""


@dataclass(frozen=True)
class DayOptions:
    """What a day depends on. `rate` in transactions a second, None for the regime's own.

    For `warm_hours` traffic goes by before training. Without them the trailing day of addresses still fills up during
    training, and the first hour after it, without recent scores, has more alerts than the budget says.
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
    rules: tuple[Rule, ...] = ()
    """Rules of users, which alert as if they were active. Nothing is known of labels, of sources and of prices."""


@dataclass
class Day:
    """What was planted, found, raised and sent."""

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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        planted = {known.removeprefix("plant:") for known in self.labels.values()}
        kinds = planted.union(*self.found.values())
        of_rules = [rule.kind for rule in self.options.rules]
        by_forest = sum("forest" in alert.kinds for alert in self.alerts.values())
        return {
            "transactions": self.transactions,
            "hours": self.options.hours,
            "alerts": len(self.alerts),
            "alerts_per_hour": len(self.alerts) / self.options.hours,
            "forest_alerts_per_hour": by_forest / self.options.hours,
            "budget": self.options.alerts_per_hour,
            "messages": self.chat.messages,
            "undelivered": sorted(txid for kind in MUST_ARRIVE for txid in self.planted(kind) - self.chat.sent.keys()),
            "kinds": {kind: self._figures(kind) for kind in (*KINDS, *of_rules) if kind in kinds},
        }

    def _figures(self, kind: str) -> dict[str, Any]:
        found = {txid for txid, kinds in self.found.items() if kind in kinds}
        alerted = {txid for txid in found if txid in self.alerts}
        sent = Counter(self.chat.sent[txid].how for txid in alerted if txid in self.chat.sent)
        waits = [
            (self.chat.sent[txid].at - self.alerts[txid].seen_at).total_seconds()
            for txid in alerted
            if txid in self.chat.sent and self.chat.sent[txid].how == "alone"
        ]
        figures: dict[str, Any] = {
            "found": len(found),
            "alerts": len(alerted),
            "sent_alone": sent["alone"],
            "in_digests": sent["digest"],
            "sent_after_s_p99": round(float(np.quantile(waits, 0.99)), 2) if waits else None,
        }
        truth = self.real_whales if kind == "whale" else self.planted(kind)
        if not truth and kind not in PLANTS_PER_HOUR:
            return figures
        right = len(found & truth)
        # A dust storm is one event with one alert.
        storms = kind == "dust_storm"
        planted = len(self.storms if storms else truth)
        hit = sum(bool(storm & found) for storm in self.storms) if storms else right
        return figures | {
            "planted": planted,
            "recall": hit / planted if planted else None,
            "precision": right / len(found) if found else None,
        }


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
    before: list[Floats] = []
    scoring: FollowedScoring | None = None
    campaigns, rules = Campaigns(), FollowedRules(RuleSet(options.rules))
    for window in replay(_traffic(options, plants_per_hour, day, begins, ends)):
        if window.start < trains:
            continue
        if window.start < begins:
            before.append(window.features)
            continue
        if scoring is None:
            scoring = FollowedScoring(_trained(np.concatenate(before), begins, options), detectors)
            before.clear()
        _live_through(day, window, scoring, campaigns, rules)
    day.chat.until(ends + timedelta(hours=1))
    return day


def _live_through(
    day: Day, window: WindowFeatures, scoring: FollowedScoring, campaigns: Campaigns, rules: FollowedRules
) -> None:
    scores = scoring.score(window)
    matched = rules.match(window, scores)
    day.transactions += len(scores)
    for score in scores:
        kinds = {reason.kind for reason in score.reasons} | ({"forest"} if score.score >= score.threshold else set())
        kinds |= {match.reason.kind for match, _ in matched.get(score.txid, ())}
        if kinds:
            day.found[score.txid] = kinds
        within_caps = [match for match, alerts in matched.get(score.txid, ()) if alerts]
        if score.is_anomaly or within_caps:
            scored = ScoredTransaction(score, "feed", scoring.model.version, within_caps)
            alerts = campaigns.first_of_each(raise_alerts([scored], score.seen_at + LANDED_AFTER))
            day.chat.take(alerts)
            day.alerts |= {alert.alert_key: alert for alert in alerts}


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
            if known in REAL_MOVES and largest_output(tx) >= options.whale_btc * SAT_PER_BTC:
                day.real_whales.add(tx.txid)
            if known == label("dust_storm"):
                if last_storm is None or simulated.at - last_storm > timedelta(minutes=5):
                    day.storms.append(set())
                day.storms[-1].add(tx.txid)
                last_storm = simulated.at
        yield tx


def _trained(features: Floats, ends: datetime, options: DayOptions) -> Model:
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
