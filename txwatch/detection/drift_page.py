"""The drift report as a page: our decision, and below it Evidently's distributions and distances for each feature.

Evidently's import takes seconds, so it happens in the function.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.drift import WATCHED, Drift
from txwatch.features.contract import FEATURES

SHOWN_ROWS = 5_000
"""Of each side: Evidently's page holds what it draws."""
MIN_KNOWN = 30
"""Known values of a feature among the rows shown. Fewer are no distribution, and Evidently fails on none at all."""

_ROW = "<tr><td>{feature}</td><td>{distance:.3f}</td><td>{limit:.3f}</td><td>{drifted}</td></tr>"


@dataclass(frozen=True)
class DriftPage:
    """The page as HTML. `evidently_share` is the share of the columns that Evidently itself calls drifted, None if it
    could compare none; `left_out` are the features that are known too rarely to be compared."""

    html: str
    evidently_share: float | None
    left_out: tuple[str, ...]


def drift_page(
    drift: Drift,
    current: NDArray[np.float64],
    reference: NDArray[np.float64],
    *,
    model_version: str,
    at: datetime,
    seed: int = 1,
) -> DriftPage:
    """Both sides have shape (n, len(FEATURES)). What spans decades is shown as its logarithm, as the model sees it."""
    import pandas as pd

    generator = np.random.default_rng(seed)

    def shown(features: NDArray[np.float64]) -> "pd.DataFrame":
        rows = generator.choice(len(features), min(SHOWN_ROWS, len(features)), replace=False)
        frame = pd.DataFrame({_title(i): _shown(features[rows, i], i) for i in WATCHED})
        return frame.where(np.isfinite(frame))

    now, before = shown(current), shown(reference)
    # Of the rows that are shown: what is known in one row of many thousands may be known in none of these.
    compared = [i for i in WATCHED if min(now[_title(i)].count(), before[_title(i)].count()) >= MIN_KNOWN]
    left_out = tuple(FEATURES[i].name for i in WATCHED if i not in compared)
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
        _ROW.format(
            feature=escape(f.feature), distance=f.distance, limit=f.limit, drifted="drifted" if f.drifted else ""
        )
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


def _shown(values: NDArray[np.float64], feature: int) -> NDArray[np.float64]:
    return np.log1p(values) if FEATURES[feature].log else values
