"""The drift report as a page: our decision, and below it Evidently's distributions and distances for each feature.

Evidently's import takes seconds, so it happens in the function.
"""

import warnings
from datetime import datetime
from html import escape

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.drift import WATCHED, Drift
from txwatch.features.contract import FEATURES

SHOWN_ROWS = 5_000
"""Of each side: Evidently's page holds what it draws."""

_ROW = "<tr><td>{feature}</td><td>{distance:.3f}</td><td>{limit:.3f}</td><td>{drifted}</td></tr>"


def drift_page(
    drift: Drift,
    current: NDArray[np.float64],
    reference: NDArray[np.float64],
    *,
    model_version: str,
    at: datetime,
    seed: int = 1,
) -> tuple[str, float]:
    """The page as HTML, and the share of columns that Evidently itself calls drifted.

    Both sides have shape (n, len(FEATURES)). What spans decades is shown as its logarithm, as the model sees it.
    """
    import pandas as pd

    generator = np.random.default_rng(seed)
    columns = [i for i in WATCHED if not (np.isnan(current[:, i]).all() or np.isnan(reference[:, i]).all())]

    def frame(features: NDArray[np.float64]) -> "pd.DataFrame":
        rows = generator.choice(len(features), min(SHOWN_ROWS, len(features)), replace=False)
        return pd.DataFrame({_title(i): _shown(features[rows, i], i) for i in columns})

    with warnings.catch_warnings():
        # Evidently's own, about numpy's names and about columns of one value: nothing that its reader can act upon.
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset

        # One distance for every number of rows: by itself it takes another test from 1,000 rows on.
        result = Report([DataDriftPreset(method="wasserstein")]).run(frame(current), frame(reference))
        page = str(result.get_html_str(as_iframe=False))
        metrics = result.dict()["metrics"]
    share = next(m["value"]["share"] for m in metrics if m["metric_name"].startswith("DriftedColumnsCount"))
    return page.replace("<body>", "<body>" + _decision(drift, model_version, at), 1), float(share)


def _decision(drift: Drift, model_version: str, at: datetime) -> str:
    rows = "".join(
        _ROW.format(
            feature=escape(f.feature), distance=f.distance, limit=f.limit, drifted="drifted" if f.drifted else ""
        )
        for f in drift.features
    )
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
        f"{rows}</table></section>"
    )


def _title(feature: int) -> str:
    return f"log(1 + {FEATURES[feature].name})" if FEATURES[feature].log else FEATURES[feature].name


def _shown(values: NDArray[np.float64], feature: int) -> NDArray[np.float64]:
    return np.log1p(values) if FEATURES[feature].log else values
