"""What models would have alerted on in days that are over, read from the archive: a day at a time, in any order.

A day's outcome is kept in the archive, so that a month is the sum of its days, whoever computes them: runs of the job
`backtest`, on as many workers as there are, or the command. It is what the day's files give with a model, and computed
again if either changes.

Scores and thresholds are those of the window lane: features are the stored ones, the rate of arrivals is that of the
trailing hour, and the threshold follows the scores of the hours before, which are scored for that from the day before.
What detectors ask the database for, such as unconfirmed ancestors, is not asked: it is long gone.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

import msgspec

from txwatch.alerts.alert import ScoredTransaction, raise_alerts
from txwatch.alerts.campaigns import Campaigns
from txwatch.archive.datasets import FEATURES, TRANSACTIONS
from txwatch.archive.days import day_span, read_day
from txwatch.archive.manifest import Archive, ArchiveError, write_whole
from txwatch.archive.reading import of_present_contract
from txwatch.archive.windows import count_windows, recomputed_windows, stored_windows
from txwatch.clock import WINDOW, context_window, window_start
from txwatch.detection.detector import Detector
from txwatch.detection.model import Model
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import Score
from txwatch.detection.threshold import SPAN
from txwatch.features.batch import WindowFeatures
from txwatch.features.context import Context, NetworkContext
from txwatch.lab.evaluation.backtest import Backtest, FollowedScoring
from txwatch.labels.store import KnownAddresses
from txwatch.places import NoSuchObjectError, ObjectStoreError, Place
from txwatch.store.database import Connection
from txwatch.store.prices import StoredPrices

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_RECENT = SPAN + 2 * WINDOW
"""Before a day: what its first thresholds follow."""


class DayOutcome(msgspec.Struct, frozen=True):
    """What a model finds unusual of a day: `unusual` are the scores of what would alert, in order of time.

    `made_of` are the digests of what it was computed from: the model's card and the day's files.
    """

    day: date
    model_version: str
    made_of: list[str]
    transactions: int
    unusual: list[Score]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DayOutcome).decode


def day_outcomes(
    connection: Connection, archive: Archive, day: date, models: Sequence[Model], detectors: Sequence[Detector]
) -> list[DayOutcome]:
    """The outcome of each model: the one that is kept if it is of the same files and model, else computed, and kept.

    Raises ArchiveError if the day is not archived or cannot be read, ObjectStoreError and OSError.
    """
    made_of = {model.version: _made_of(connection, day, model) for model in models}
    kept = {model.version: _kept(archive, day, model.version) for model in models}
    known = {version: found for version, found in kept.items() if found and found.made_of == made_of[version]}
    missing = [model for model in models if model.version not in known]
    for model, outcome in zip(missing, _score(connection, archive, day, missing, detectors, made_of), strict=True):
        write_whole(_place(archive, day, model.version), _encode(outcome))
        known[model.version] = outcome
    return [known[model.version] for model in models]


def day_detectors(connection: Connection, whale_btc: float, whale_usd: float | None) -> list[Detector]:
    """The detectors, with what is known today of addresses, and the prices of then."""
    return default_detectors(
        whale_btc=whale_btc,
        whale_usd=whale_usd,
        price_of=StoredPrices(connection),
        known=KnownAddresses.stored(connection),
    )


def _made_of(connection: Connection, day: date, model: Model) -> list[str]:
    files = []
    for dataset in (TRANSACTIONS, FEATURES):
        one = read_day(connection, dataset, day)
        if one is None or one.manifest is None:
            raise ArchiveError(f"{dataset.name} of {day} are not archived")
        files.append(one.manifest.sha256)
    return [hashlib.sha256(model.card.to_json()).hexdigest(), *files]


def _place(archive: Archive, day: date, version: str) -> Place:
    return archive.place / "backtests" / version / f"{day:%Y-%m}" / f"{day}.json"


def _kept(archive: Archive, day: date, version: str) -> DayOutcome | None:
    try:
        return _decode(_place(archive, day, version).read_bytes())
    except (FileNotFoundError, NoSuchObjectError, msgspec.MsgspecError):
        return None  # it is computed again


def _score(
    connection: Connection,
    archive: Archive,
    day: date,
    models: Sequence[Model],
    detectors: Sequence[Detector],
    made_of: dict[str, list[str]],
) -> list[DayOutcome]:
    """The outcomes of these models, of which all read the day once."""
    if not models:
        return []
    start, end = day_span(day)
    scorings = [FollowedScoring(model, detectors) for model in models]
    unusual: list[list[Score]] = [[] for _ in models]
    transactions = 0
    for window in archived_windows(connection, archive, start - _RECENT, end):
        for scoring, found in zip(scorings, unusual, strict=True):
            scores = scoring.score(window)
            if window.start >= start:
                found += [score for score in scores if score.is_anomaly]
        transactions += len(window.batch) if window.start >= start else 0
    return [
        DayOutcome(day, model.version, made_of[model.version], transactions, found)
        for model, found in zip(models, unusual, strict=True)
    ]


def archived_windows(
    connection: Connection, archive: Archive, start: datetime, end: datetime
) -> Iterator[WindowFeatures]:
    """The windows in [start, end) as the window lane scored them, as columns.

    With the features that are stored, and of a window's context what scoring asks for, the arrivals of its trailing
    hour; where those are of another contract, with features and contexts computed again. Without the day before, if
    that cannot be read. Raises ArchiveError.
    """
    last = day_span((end - WINDOW).date())[0]
    try:
        arrivals = _Arrivals.counted(connection, archive, context_window(start) - _HOUR, end)
        is_present = of_present_contract(connection, archive, start.date())
    except (ArchiveError, ObjectStoreError):
        start, is_present = max(start, last), True
        arrivals = _Arrivals.counted(connection, archive, start, end)
    if not (is_present and of_present_contract(connection, archive, last.date())):
        for computed in recomputed_windows(connection, archive, start, end):
            yield WindowFeatures(computed.start, (), computed.batch, computed.features, computed.context)
        return
    for window in stored_windows(connection, archive, start, end):
        network = arrivals.trailing_hour(context_window(window.start))
        yield WindowFeatures(window.start, (), window.batch, window.features, Context(network))


@dataclass(frozen=True)
class _Arrivals:
    """How many transactions were seen in each window that had some."""

    counts: Mapping[datetime, int]

    @classmethod
    def counted(cls, connection: Connection, archive: Archive, start: datetime, end: datetime) -> "_Arrivals":
        """Count them. Raises ArchiveError."""
        return cls(count_windows(connection, archive, start, end))

    def trailing_hour(self, as_of: datetime) -> NetworkContext:
        """The arrivals of the hour that ends with a window, and of how many windows of it they are known."""
        first = min(self.counts, default=as_of + WINDOW)
        known = min(_HOUR // WINDOW, max(0, (as_of - first) // WINDOW + 1))
        arrived = sum(self.counts.get(as_of - n * WINDOW, 0) for n in range(_HOUR // WINDOW))
        return NetworkContext(as_of, version=int(known > 0), tx_count_1h=arrived, windows_24h=known)


def together(outcomes: Sequence[Sequence[DayOutcome]]) -> Backtest:
    """The alerts of several days, of which each has the outcomes of the same models: one for each campaign."""
    days = sorted(outcomes, key=lambda of_day: of_day[0].day)
    versions = [outcome.model_version for outcome in days[0]] if days else []
    alerts: dict[str, dict[str, Score]] = {}
    for place, version in enumerate(versions):
        campaigns = Campaigns()
        raised: dict[str, Score] = {}
        unusual = [score for of_day in days for score in of_day[place].unusual]
        for start, group in groupby(unusual, lambda score: window_start(score.seen_at)):
            of_txid = {score.txid: score for score in group}
            scored = [ScoredTransaction(score, "feed", version) for score in of_txid.values()]
            first = campaigns.first_of_each(raise_alerts(scored, start + WINDOW))
            raised |= {alert.alert_key: of_txid[alert.alert_key] for alert in first}
        alerts[version] = raised
    hours = max(1, len(days)) * (_DAY / _HOUR)
    return Backtest(sum(of_day[0].transactions for of_day in days), hours, alerts)
