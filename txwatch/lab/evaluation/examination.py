"""Examine models for the gate, all on the same held-out windows, planted anomalies, judged alerts and golden cases.

Accuracy is not among them: with one positive in a thousand, finding nothing is 99.9 % accurate.

What people answered is taught only if the model is better for it by such an examination. Otherwise it stays as it was
trained: answers that mislead cost a night's lesson, and never a night's model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import psycopg

from txwatch.alerts.alert import ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import Campaigns
from txwatch.alerts.store import read_precision
from txwatch.clock import WINDOW, context_window, utc_now, window_range, window_start
from txwatch.detection.answers import MIN_ANSWERS, Answers, agreement, is_unseen
from txwatch.detection.detector import Detector
from txwatch.detection.gate import Feedback, GateCheck, ModelResult, judge_answers, passes
from txwatch.detection.kinds import KINDS
from txwatch.detection.known_cases import incidents, judge_cases, look_alikes
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import Score, score_features
from txwatch.detection.training import AGREEMENT_ROWS, TrainedModel, teach
from txwatch.features.batch import Flags, Floats, TransactionBatch, WindowFeatures
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import read_network_contexts
from txwatch.features.store import read_features, read_named_features
from txwatch.features.transaction import transaction_features
from txwatch.lab.evaluation.replay import Labelled, simulate
from txwatch.lab.simulator.regimes import REGIMES
from txwatch.store.database import Connection, connect, statement
from txwatch.store.transactions import read_named_transactions


def read_held_out(connection: Connection, start: datetime, end: datetime) -> list[WindowFeatures]:
    """The windows in [start, end) that have features."""
    windows = (read_features(connection, window) for window in window_range(start, end))
    return [window for window in windows if window.transactions]


@dataclass(frozen=True)
class JudgedAlerts:
    """Alerts that people judged, by window. Those that are not `useful`, by txid, are noise."""

    windows: Sequence[WindowFeatures] = ()
    useful: frozenset[str] = frozenset()

    @property
    def answers(self) -> Answers:
        """The same without their windows."""
        txids = [tx.txid for window in self.windows for tx in window.transactions]
        features = np.concatenate([np.empty((0, len(FEATURE_NAMES))), *(window.features for window in self.windows)])
        return Answers(txids, features, np.array([txid in self.useful for txid in txids], np.bool_))


_NOTHING_JUDGED = JudgedAlerts()


def read_judged(connection: Connection, kinds: Sequence[str] = ("forest",), at_most: int = 1_000) -> JudgedAlerts:
    """The newest judged alerts of these kinds whose transactions still have features.

    People who disagree count for the majority.
    """
    given = {"kinds": list(kinds), "at_most": at_most}
    rows = connection.execute(statement("lab/evaluation", "judged_alerts"), given).fetchall()
    features = read_named_features(connection, {txid: seen_at for txid, seen_at, _ in rows})
    transactions = [tx for tx in read_named_transactions(connection, list(features)) if tx.txid in features]
    transactions.sort(key=lambda tx: (tx.seen_at, tx.txid))
    groups = {start: list(group) for start, group in groupby(transactions, lambda tx: window_start(tx.seen_at))}
    networks = read_network_contexts(connection, [context_window(start) for start in groups])
    windows = [
        WindowFeatures(
            start,
            group,
            TransactionBatch.of(group),
            np.stack([features[tx.txid] for tx in group]),
            Context(networks[context_window(start)]),
        )
        for start, group in groups.items()
    ]
    return JudgedAlerts(tuple(windows), frozenset(txid for txid, _, useful in rows if useful))


def feedback_figures(database_url: str | None) -> dict[str, Any]:
    """The precision of each detector and model version by what people answered, and in words why there is none."""
    if database_url is None:
        return {"judged": [], "note": "DATABASE_URL is not set: what people said of alerts is not known here"}
    try:
        with connect(database_url, application="txwatch evaluate") as connection:
            judged = read_precision(connection, datetime.min.replace(tzinfo=UTC))
    except psycopg.Error as error:
        return {"judged": [], "note": f"the database could not be read: {error}".strip()}
    note = None if judged else "nobody has judged an alert yet"
    return {"judged": [asdict(one) | {"precision": one.share} for one in judged], "note": note}


PLANTS_PER_HOUR: Mapping[str, float] = dict.fromkeys(
    ("fee_accident", "whale", "coinjoin", "dormant_round_move"), 50.0
) | {"dust_storm": 4.0}
DURATION = timedelta(hours=4)
"""200 of each kind, and 16 storms of 20 to 60 transactions."""
SEED = 20_240_314
START = datetime(2024, 3, 14, tzinfo=UTC)


def planted(median_fee_rate: float) -> Labelled:
    """Planted anomalies that pay what others pay in the regime whose median fee rate (sat/vB) is nearest to this."""
    medians = {
        name: np.interp(0.5, [*regime.fee_rate], [*regime.fee_rate.values()]) for name, regime in REGIMES.items()
    }
    nearest = min(medians, key=lambda name: abs(np.log(medians[name] / median_fee_rate)))
    traffic = simulate(nearest, seed=SEED, start=START, duration=DURATION, rate=0.01, plants_per_hour=PLANTS_PER_HOUR)
    return traffic.at([row for row, label in enumerate(traffic.labels) if label is not None])


def _labelled_scores(background: Floats, positives: Floats) -> tuple[Flags, Floats]:
    scores = np.concatenate([background, positives])
    return np.arange(len(scores)) >= len(background), scores


def auc(background: Floats, positives: Floats) -> float:
    """The chance that a positive scores higher than the background; equal scores count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled_scores(background, positives)))


def average_precision(background: Floats, positives: Floats) -> float:
    """The mean precision at each positive, from the highest score down."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled_scores(background, positives)))


def recall_at(background: Floats, positives: Floats, false_positive_rate: float) -> float:
    """The share of positives found at the threshold that lets at most this share of the background through."""
    from sklearn.metrics import roc_curve

    false_positives, found, _ = roc_curve(*_labelled_scores(background, positives), drop_intermediate=False)
    return float(found[false_positives <= false_positive_rate].max())


RESAMPLES = 400
FEW = 10
"""Rows of background; a rate that fewer decide says little."""
RATES = {"recall_at_0_2pct_fpr": 0.002, "recall_at_1pct_fpr": 0.01}


def recall_interval(background: Floats, positives: Floats, false_positive_rate: float) -> tuple[float, float]:
    """The middle 95 % of `recall_at` over resamples of both, drawn with a fixed seed (Efron, 1979)."""
    return mean_recall_interval(background, [positives], false_positive_rate)


def mean_recall_interval(
    background: Floats, kinds: Sequence[Floats], false_positive_rate: float
) -> tuple[float, float]:
    """The same of the mean recall of several kinds of positives, beside one background.

    How often a row is drawn is Poisson with mean 1, so that only the highest rows of the background matter.
    """
    generator = np.random.default_rng(0)
    allowed = false_positive_rate * len(background)
    top = np.sort(background)[::-1][: int(4 * allowed) + 100]
    passed = generator.poisson(1.0, (RESAMPLES, len(top))).cumsum(axis=1)
    # The first row that is one too many: what scores higher than it is found.
    first = (passed > allowed).argmax(axis=1)
    drawn = []
    for positives in kinds:
        above = len(positives) - np.searchsorted(np.sort(positives), top[first], "right")
        drawn.append(generator.binomial(len(positives), above / len(positives)) / len(positives))
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975]).tolist()
    return low, high


def deciding_rate(background_rows: int, budget_rate: float) -> float:
    """The lowest of the budget's rate, 0.2 % and 1 % at which at least FEW rows of background decide; else 1 %."""
    rates = sorted({budget_rate, *(rate for rate in RATES.values() if rate > budget_rate)})
    return next((rate for rate in rates if rate * background_rows >= FEW), rates[-1])


def figures(background: Floats, positives: Floats, budget_rate: float) -> dict[str, Any]:
    """What scores are worth. `budget_rate` is the false-positive rate that the alert budget allows.

    Each recall has its interval of 95 %, and the number of background rows that decide it. AUC decides nothing: it is
    about rates at which nobody lives.
    """
    result: dict[str, Any] = {
        "n": len(positives),
        "auc": auc(background, positives),
        "average_precision": average_precision(background, positives),
    }
    for name, rate in ({"recall_at_budget_fpr": budget_rate} | RATES).items():
        result[name] = recall_at(background, positives, rate)
        result[f"{name}_interval"] = list(recall_interval(background, positives, rate))
        result[f"{name}_rows"] = int(rate * len(background))
    return result


def compared(
    scores: Floats, baseline: Floats, labels: list[str | None], background: Flags, budget_rate: float
) -> dict[str, Any]:
    """The figures of each label beside the baseline's. All arrays have shape (n,)."""
    known = np.array([label or "" for label in labels])
    return {
        label: figures(scores[background], scores[known == label], budget_rate)
        | {"baseline": figures(baseline[background], baseline[known == label], budget_rate)}
        for label in sorted(set(known[~background].tolist()) - {""})
    }


def examine(
    models: list[Model], held_out: list[WindowFeatures], *, whale_btc: float, judged: JudgedAlerts = _NOTHING_JUDGED
) -> list[ModelResult]:
    """The results of each model."""
    detectors = default_detectors(whale_btc=whale_btc)
    features = np.concatenate([np.empty((0, len(FEATURE_NAMES))), *(window.features for window in held_out)])
    network = max((w.context.network for w in held_out), key=lambda n: n.as_of)
    fee_rate = network.median_fee_rate_1h or float(np.nanmedian(features[:, FEATURE_NAMES.index("fee_rate")]))
    anomalies = planted(fee_rate)
    # Addresses of planted transactions never occurred before: version 0 leaves them unknown.
    context = Context(replace(network, version=0))
    known = transaction_features(TransactionBatch.of(anomalies.transactions), context)
    rows = {label.removeprefix("plant:"): anomalies.rows(label) for label in sorted({x for x in anomalies.labels if x})}
    results = []
    for model in models:
        scored = _scored(held_out, model, detectors)
        ordinary = np.array([not any(r.kind != "forest" for r in one.reasons) for one in scored], np.bool_)
        rate = deciding_rate(int(ordinary.sum()), model.card.alerts_per_hour / model.card.transactions_per_hour)
        scores, voices = model.score(features), model.without_answers()
        # What alerts nobody may teach it to miss; what is but a tag people may call noise.
        pairs = {
            True: (scores[ordinary], model.score(known)),
            False: (voices.score(features[ordinary]), voices.score(known)),
        }
        of_kind = {
            kind: (pairs[KINDS[kind].alerts][0], pairs[KINDS[kind].alerts][1][own]) for kind, own in rows.items()
        }
        said = _scored(judged.windows, model, detectors)
        results.append(
            ModelResult(
                version=model.version,
                hours=len(held_out) * (WINDOW / timedelta(hours=1)),
                scores=scores,
                alerts=forest_alerts(scored),
                alerts_per_hour=model.card.alerts_per_hour,
                seed_agreement=model.card.seed_agreement,
                agreement_rows=min(model.card.rows, AGREEMENT_ROWS),
                incidents=judge_cases(incidents(), model, detectors),
                look_alikes=judge_cases(look_alikes(fee_rate), model, detectors),
                auc={label: auc(*pair) for label, pair in of_kind.items()},
                recall={label: recall_at(*pair, rate) for label, pair in of_kind.items()},
                rate=rate,
                feedback=_feedback(said, judged.useful),
                unseen_agreement=_unseen_agreement(said, judged.useful),
            )
        )
    return results


def forest_alerts(scored: Sequence[Score]) -> int:
    """How many alerts the forest raises of these scores: one for each campaign."""
    alerts = raise_alerts((ScoredTransaction(score, "feed", None) for score in scored if score.is_anomaly), utc_now())
    return sum("forest" in alert.kinds for alert in Campaigns().first_of_each(alerts))


def _scored(windows: Sequence[WindowFeatures], model: Model, detectors: Sequence[Detector]) -> list[Score]:
    return [score for window in windows for score in score_features(window, model, detectors)]


def _feedback(judged: Sequence[Score], useful: frozenset[str]) -> Feedback:
    """Which of the transactions that people judged the model finds."""
    of_useful = [score.score >= score.threshold for score in judged if score.txid in useful]
    of_noise = [score.score >= score.threshold for score in judged if score.txid not in useful]
    return Feedback(len(of_useful), sum(of_useful), len(of_noise), sum(of_noise))


def _unseen_agreement(judged: Sequence[Score], useful: frozenset[str]) -> float | None:
    unseen = [score for score in judged if is_unseen(score.txid)]
    return agreement(np.array([s.score for s in unseen]), np.array([s.txid in useful for s in unseen], np.bool_))


@dataclass(frozen=True)
class Lesson:
    """The model to go on with, taught or as it was, and in words what became of the answers."""

    trained: TrainedModel
    outcome: str
    checks: Sequence[GateCheck] = ()


def teach_if_better(
    trained: TrainedModel,
    features: Floats,
    judged: JudgedAlerts,
    held_out: list[WindowFeatures],
    *,
    whale_btc: float,
) -> Lesson:
    """Learn from the answers that may be learnt from, and judge by the others and by planted anomalies.

    `features` are those that it was trained on, `held_out` windows that it was not.
    """
    answers = judged.answers
    if len(answers) < MIN_ANSWERS:
        return Lesson(trained, f"{len(answers)} answers: it learns from {MIN_ANSWERS} on")
    if not held_out:
        return Lesson(trained, "no window since its training has features, so nothing to judge a lesson on")
    learnt_from, kept = answers.split()
    taught = teach(trained, features, learnt_from, whale_btc=whale_btc)
    models = [taught.model("taught"), trained.model("untaught")]
    checks = judge_answers(*examine(models, held_out, whale_btc=whale_btc, judged=judged))
    if passes(checks):
        return Lesson(taught, f"learnt from {len(learnt_from)} answers, judged by {len(kept)} others", checks)
    reasons = "; ".join(check.reason for check in checks if not check.passed)
    return Lesson(trained, f"nothing learnt from {len(learnt_from)} answers: {reasons}", checks)
