"""Drift reports: the page of a report, where pages are kept, and their rows in Postgres.

A page is found by the moment of its report: no name comes from outside. Evidently's import takes seconds, so it happens
in the function.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

import msgspec
import numpy as np

from txwatch.detection.drift import WATCHED, Drift, FeatureDrift
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURES
from txwatch.places import NoSuchObjectError, Place, S3Object
from txwatch.store.database import Connection

KEEP_PAGES_FOR = timedelta(days=30)
_NAME = re.compile(r"drift-(\d{4}-\d{2}-\d{2})-(?:\d{4}|\d{6})\.html")


@dataclass(frozen=True)
class DriftPages:
    """Where the pages are. What goes wrong with a bucket raises ObjectStoreError."""

    place: Place

    @property
    def in_store(self) -> bool:
        """Whether every machine can read them, and so the database need not hold them too."""
        return isinstance(self.place, S3Object)

    def write(self, at: datetime, html: str) -> Place:
        """Write the page of the report of this moment, over one that is there."""
        page = self._page(at)
        if isinstance(page, S3Object):
            page.write_bytes(html.encode(), "text/html; charset=utf-8")
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(html, encoding="utf-8")
        return page

    def read(self, at: datetime) -> str | None:
        """The page of the report of this moment, or None if there is none any more."""
        try:
            return self._page(at).read_bytes().decode()
        except (FileNotFoundError, NoSuchObjectError):
            return None

    def forget(self, now: datetime) -> None:
        """Remove the pages older than KEEP_PAGES_FOR by their names; nothing else is touched."""
        if isinstance(self.place, Path) and not self.place.is_dir():
            return
        oldest = f"{(now - KEEP_PAGES_FOR).astimezone(UTC):%Y-%m-%d}"
        for page in self.place.iterdir():
            if (named := _NAME.fullmatch(page.name)) and named[1] < oldest:
                page.unlink()

    def _page(self, at: datetime) -> Place:
        return self.place / f"drift-{at.astimezone(UTC):%Y-%m-%d-%H%M%S}.html"


KEEP_FOR = timedelta(days=7)
"""For reports with their page, of some megabytes. Reports without one stay as long as their pages."""


def record_drift_report(
    connection: Connection,
    *,
    computed_at: datetime,
    model_version: str,
    seen_from: datetime,
    seen_to: datetime,
    rows: int,
    share: float,
    drifted: bool,
    features: Sequence[FeatureDrift],
    html: str | None = None,
) -> int:
    """Keep a report, drop those that are too old, and return the new one's id.

    `html` is one whole page, None while it is not drawn, and where all can read it from S3.
    """
    connection.execute(
        "DELETE FROM drift_reports WHERE computed_at < CASE WHEN html IS NULL THEN %s ELSE %s END",
        [computed_at - KEEP_PAGES_FOR, computed_at - KEEP_FOR],
    )
    as_json = msgspec.json.encode(features).decode()
    [(report,)] = connection.execute(
        "INSERT INTO drift_reports"
        " (computed_at, model_version, seen_from, seen_to, rows, share, drifted, features, html)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [computed_at, model_version, seen_from, seen_to, rows, share, drifted, as_json, html],
    ).fetchall()
    return int(report)


def record_drift_page(connection: Connection, report_id: int, html: str) -> None:
    """Keep the page of a report whose figures are kept."""
    connection.execute("UPDATE drift_reports SET html = %s WHERE id = %s", [html, report_id])


SHOWN_ROWS = 5_000
"""Of each side: Evidently's page holds what it draws."""
MIN_KNOWN = 30
"""Known values of a feature among the rows shown. Fewer are no distribution, and Evidently fails on none at all."""


@dataclass(frozen=True)
class DriftPage:
    """The page as HTML. `left_out` are the features that are known too rarely to be compared.

    `evidently_share` is the share of columns that Evidently calls drifted, None if it could compare none.
    """

    html: str
    evidently_share: float | None
    left_out: tuple[str, ...]


def drift_page(
    drift: Drift, current: Floats, reference: Floats, *, model_version: str, at: datetime, seed: int = 1
) -> DriftPage:
    """Both sides have shape (n, len(FEATURES)). What spans decades is shown as its logarithm, as the model sees it."""
    import pandas as pd

    generator = np.random.default_rng(seed)

    def shown(features: Floats) -> "pd.DataFrame":
        rows = generator.choice(len(features), min(SHOWN_ROWS, len(features)), replace=False)
        frame = pd.DataFrame(
            {_title(i): np.log1p(features[rows, i]) if FEATURES[i].log else features[rows, i] for i in WATCHED}
        )
        return frame.where(np.isfinite(frame))

    now, before = shown(current), shown(reference)
    # Of the rows that are shown: what is known in one row of many thousands may be known in none of these.
    compared = [i for i in WATCHED if min(now[_title(i)].count(), before[_title(i)].count()) >= MIN_KNOWN]
    # What no source tells is no loss.
    told = [i for i in WATCHED if max(now[_title(i)].count(), before[_title(i)].count())]
    left_out = tuple(FEATURES[i].name for i in told if i not in compared)
    decision = _decision(drift, model_version, at, left_out)
    if not compared:
        return DriftPage(f"<!DOCTYPE html><html><body>{decision}</body></html>", None, left_out)
    titles = [_title(i) for i in compared]
    with warnings.catch_warnings():
        # Evidently's own, about numpy's names and about columns of one value: nothing that its reader can act upon.
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset

        # One distance for every number of rows: by itself it takes another test from 1,000 rows on.
        result = Report([DataDriftPreset(method="wasserstein")]).run(now[titles], before[titles])
        page = str(result.get_html_str(as_iframe=False))
        metrics = result.dict()["metrics"]
    share = next(m["value"]["share"] for m in metrics if m["metric_name"].startswith("DriftedColumnsCount"))
    return DriftPage(page.replace("<body>", "<body>" + decision, 1), float(share), left_out)


def _decision(drift: Drift, model_version: str, at: datetime, left_out: Sequence[str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(f.feature)}</td><td>{f.distance:.3f}</td><td>{f.limit:.3f}</td>"
        f"<td>{'drifted' if f.drifted else ''}</td></tr>"
        for f in drift.features
    )
    without = f"<p>Known too rarely for Evidently to compare: {escape(', '.join(left_out))}.</p>" if left_out else ""
    verdict = "The traffic has changed" if drift.drifted else "The traffic is like that of the training"
    return (
        '<section style="font-family: sans-serif; max-width: 60em; margin: 2em auto">'
        f"<h1>{verdict}</h1>"
        f"<p>{at:%Y-%m-%d %H:%M} UTC: {drift.rows:,} recent transactions against {drift.reference_rows:,} of those that"
        f" model version {escape(model_version)} was trained on. {drift.share:.0%} of the features have drifted."
        " A feature has drifted when its distance (Kolmogorov-Smirnov) is above its limit, which allows for the number"
        " of rows and for how much one hour is ordinarily unlike another. Below are Evidently's figures, with its own"
        " limits.</p>"
        '<table cellpadding="4"><tr><th>feature</th><th>distance</th><th>limit</th><th></th></tr>'
        f"{rows}</table>{without}</section>"
    )


def _title(feature: int) -> str:
    return f"log(1 + {FEATURES[feature].name})" if FEATURES[feature].log else FEATURES[feature].name
