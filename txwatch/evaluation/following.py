"""Replayed windows scored as production would: the threshold follows the scores of the hours before.

Kept here in memory and in the database there (`txwatch.detection.recent_scores`), as of the same windows.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from txwatch.detection.detectors import Detector
from txwatch.detection.model import Model
from txwatch.detection.recent_scores import SPAN, scores_kept
from txwatch.detection.score import Score, score_features
from txwatch.detection.threshold import RecentScores
from txwatch.evaluation.replay import ReplayedWindow
from txwatch.windows import context_window


@dataclass
class FollowedScoring:
    """One model's scores of windows that are given in order of time."""

    model: Model
    detectors: Sequence[Detector]
    _scores: deque[tuple[datetime, NDArray[np.float64]]] = field(default_factory=deque, init=False, repr=False)

    def score(self, window: ReplayedWindow) -> list[Score]:
        """The window's scores, by a threshold that follows those given before."""
        recent = self._recent(context_window(window.start))
        scores = score_features(
            window.transactions,
            window.batch,
            window.features,
            window.context.network,
            self.model,
            self.detectors,
            recent,
        )
        self._scores.append((window.start, np.array([s.score for s in scores])))
        return scores

    def _recent(self, as_of: datetime) -> RecentScores | None:
        while self._scores and self._scores[0][0] < as_of - SPAN:
            self._scores.popleft()
        parts = [scores for start, scores in self._scores if start < as_of]
        if not parts:
            return None
        together = np.sort(np.concatenate(parts))[::-1]
        return RecentScores(len(together), together[: scores_kept(self.model)].tolist())
