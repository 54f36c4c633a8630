"""What models would have alerted on in a capture, and where they differ. Nothing is sent and nothing is stored."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np

from txwatch.alerts.alert import ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import Campaigns
from txwatch.clock import EPOCH, WINDOW, context_window
from txwatch.detection.detector import Detector
from txwatch.detection.kinds import raising
from txwatch.detection.model import Model
from txwatch.detection.patterns import Patterns, best_of_each, best_rows
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import Score, score_features
from txwatch.detection.threshold import SPAN, RecentScores, scores_kept
from txwatch.features.batch import Floats, WindowFeatures
from txwatch.lab.evaluation.replay import Labelled, replay
from txwatch.labels.store import NOTHING_KNOWN, KnownAddresses
from txwatch.rules.evaluate import RuleSet, Traffic, kinds_of
from txwatch.rules.look_ups import LookUps
from txwatch.rules.matches import Matched
from txwatch.rules.rule import Rule
from txwatch.store.prices import PriceOf, no_price


@dataclass
class FollowedScoring:
    """One model's scores of windows that are given in order of time, with its recent scores kept in memory.

    They decide as of the same windows as those in the database (`txwatch.detection.threshold`).
    """

    model: Model
    detectors: Sequence[Detector]
    _scored: deque["_Scored"] = field(default_factory=deque, init=False, repr=False)

    def score(self, window: WindowFeatures) -> list[Score]:
        """The window's scores, by a threshold that follows those given before."""
        scores = score_features(window, self.model, self.detectors, self._recent(context_window(window.start)))
        self._scored.append(_Scored.of(window.start, scores))
        return scores

    def _recent(self, as_of: datetime) -> RecentScores | None:
        while self._scored and self._scored[0].start < as_of - SPAN:
            self._scored.popleft()
        before = [scored for scored in self._scored if scored.start < as_of]
        if not before:
            return None
        hours = [np.full(len(scored.best), (scored.start - EPOCH) // timedelta(hours=1)) for scored in before]
        best = best_of_each(
            np.concatenate([scored.best for scored in before]),
            np.concatenate([scored.patterns for scored in before]),
            np.concatenate(hours),
        )
        highest = np.sort(best)[::-1][: scores_kept(self.model.card.alerts_per_hour)]
        return RecentScores(sum(scored.rows for scored in before), highest.tolist())


@dataclass(frozen=True)
class _Scored:
    """A window's scores: how many, and the best one of each pattern."""

    start: datetime
    rows: int
    best: Floats
    patterns: Patterns

    @classmethod
    def of(cls, start: datetime, scores: Sequence[Score]) -> "_Scored":
        of_rows, patterns = np.array([s.score for s in scores]), np.array([s.pattern for s in scores], np.int64)
        best = best_rows(of_rows, patterns, np.zeros(len(scores), np.int64))
        return cls(start, len(scores), of_rows[best], patterns[best])


@dataclass
class FollowedRules:
    """Users' rules, as if they were active, on windows that are given in order of time; their caps kept in memory."""

    rules: RuleSet
    look_ups: LookUps = field(default_factory=LookUps)
    _matches: Counter[tuple[str, datetime]] = field(default_factory=Counter, init=False, repr=False)

    def match(self, window: WindowFeatures, scores: Sequence[Score]) -> dict[str, list[tuple[Matched, bool]]]:
        """What they match, by txid, and whether that alerts: what is over a rule's cap of the hour does not."""
        judged = self.rules.judge(Traffic(window.batch, window.features, kinds_of(scores)), self.look_ups)
        found: dict[str, list[tuple[Matched, bool]]] = {}
        for match in sorted(judged.matches, key=lambda match: match.seen_at):
            hour = match.rule.name, match.seen_at.replace(minute=0, second=0, microsecond=0)
            self._matches[hour] += 1
            alerts = self._matches[hour] <= match.rule.alerts_per_hour
            found.setdefault(match.txid, []).append((Matched.of(match), alerts))
        return found


@dataclass(frozen=True)
class Backtest:
    """The alerts of each model version, by txid, in order of time: one for each campaign."""

    transactions: int
    hours: float
    alerts: Mapping[str, Mapping[str, Score]]

    def only(self, version: str) -> list[Score]:
        """The alerts that no other version has."""
        others = set().union(*(alerts for other, alerts in self.alerts.items() if other != version))
        return [score for txid, score in self.alerts[version].items() if txid not in others]

    def common(self) -> int:
        """How many alerts all versions have."""
        return len(set.intersection(*(set(alerts) for alerts in self.alerts.values())))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "transactions": self.transactions,
            "hours": self.hours,
            "common": self.common(),
            "models": {
                version: {
                    "alerts": len(alerts),
                    "alerts_per_hour": len(alerts) / self.hours,
                    "kinds": dict(sorted(Counter(chain.from_iterable(map(_kinds, alerts.values()))).items())),
                    "only": [
                        {
                            "txid": score.txid,
                            "seen_at": score.seen_at.isoformat(),
                            "score": score.score,
                            "threshold": score.threshold,
                            "reasons": [reason.text for reason in score.reasons],
                        }
                        for score in self.only(version)
                    ],
                }
                for version, alerts in self.alerts.items()
            },
        }


def backtest(
    traffic: Labelled,
    models: Sequence[Model],
    *,
    whale_btc: float,
    whale_usd: float | None = None,
    price_of: PriceOf = no_price,
    known: KnownAddresses = NOTHING_KNOWN,
    rules: Sequence[Rule] = (),
    look_ups: LookUps | None = None,
) -> Backtest:
    """Replay the traffic in order of time, in the context that it would have made, and score it with each model.

    `known` is what is known of addresses, `price_of` what is known of prices at that time, and `look_ups` where users'
    `rules` look things up. The first two windows have no context, as after a cold start.
    """
    windows = list(replay(sorted(traffic.transactions, key=lambda tx: (tx.seen_at, tx.txid))))
    detectors = default_detectors(whale_btc=whale_btc, whale_usd=whale_usd, price_of=price_of, known=known)

    def alerts(model: Model) -> dict[str, Score]:
        scoring, campaigns = FollowedScoring(model, detectors), Campaigns()
        followed = FollowedRules(RuleSet(rules), look_ups or LookUps())
        raised: dict[str, Score] = {}
        for window in windows:
            scores = scoring.score(window)
            matched = followed.match(window, scores)
            scored = [
                ScoredTransaction(score, "feed", model.version, within_caps)
                for score in scores
                if (within_caps := [match for match, alerts in matched.get(score.txid, ()) if alerts])
                or score.is_anomaly
            ]
            of_txid = {one.score.txid: one for one in scored}
            first = campaigns.first_of_each(raise_alerts(scored, window.start + WINDOW))
            raised |= {alert.alert_key: _with_matches(of_txid[alert.alert_key]) for alert in first}
        return raised

    seen = [tx.seen_at for window in windows for tx in window.transactions]
    hours = max((max(seen) - min(seen)) / timedelta(hours=1), 1 / 60) if seen else 1 / 60
    return Backtest(len(traffic), hours, {model.version: alerts(model) for model in models})


def _with_matches(scored: ScoredTransaction) -> Score:
    reasons = [match.reason for match in scored.matched]
    return replace(scored.score, reasons=[*scored.score.reasons, *reasons])


def _kinds(score: Score) -> set[str]:
    return raising(reason.kind for reason in score.reasons) or {"forest"}
