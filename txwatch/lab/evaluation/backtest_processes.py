"""A backtest of many days, on as many cores as there are: days ask nothing of each other."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context

from txwatch.archive.manifest import Archive, ArchiveError
from txwatch.detection.model import Model
from txwatch.errors import UserError
from txwatch.lab.evaluation.backtest_days import DayOutcome, day_detectors, day_outcomes
from txwatch.places import ObjectStoreError
from txwatch.store.database import connect


@dataclass(frozen=True)
class DayBacktest:
    """What a process needs in order to try a day: the models, what detectors call a whale, and where days are read."""

    database_url: str
    archive: Archive
    models: Sequence[Model]
    whale_btc: float
    whale_usd: float | None = None

    def outcomes(self, day: date) -> list[DayOutcome] | str:
        """Those of `day_outcomes`, or why the day cannot be read."""
        with connect(self.database_url, application="txwatch backtest") as connection:
            detectors = day_detectors(connection, self.whale_btc, self.whale_usd)
            try:
                return day_outcomes(connection, self.archive, day, self.models, detectors)
            except (ArchiveError, ObjectStoreError) as error:
                return str(error)


def try_days(
    backtest: DayBacktest, days: Sequence[date], processes: int
) -> Iterator[tuple[date, list[DayOutcome] | str]]:
    """Each day's outcomes, or why it cannot be read, in the order of `days`.

    Raises UserError if a process was ended from outside; the days that were done are kept.
    """
    # Started anew: a copy of this process would have its connections and the threads of its libraries.
    pool = ProcessPoolExecutor(max(1, min(processes, len(days))), mp_context=get_context("spawn"))
    try:
        yield from zip(days, pool.map(backtest.outcomes, days), strict=True)
    except BrokenProcessPool:
        raise UserError(
            "A process that tried a day was ended from outside. If memory is short, fewer --processes need less of it;"
            " the days that were done are kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
