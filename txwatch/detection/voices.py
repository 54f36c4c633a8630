"""The two voices of a model, and how they speak as one.

The Isolation Forest finds what is cut off quickly: extreme in some feature, or a pattern that few rows share. The
neighbours find what lies far from anything of the training day, though no single feature of it is extreme: the mean
distance to the K nearest of some reference rows (Ramaswamy, Rastogi and Shim, 2000; Angiulli and Pizzuti, 2002). Each
is the better one for what the other misses; an average of the two would dilute both (docs/models.md has the table).

So each has a voice of its own. A score becomes a rarity, the share of the training rows that score as much, and a
transaction is as rare as the voice says that finds it rarer. Equal rarities are equal shares of the alert budget.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from txwatch.features.batch import Flags, Floats

K = 10
REFERENCES = 4_000
"""Rows: so many that ordinary patterns of one in a thousand are among them. A tree finds the nearest in 6 us."""
_TAIL_ROWS = 100
"""Rows of training above which rarities are extrapolated."""
_LEVELS = 200
_LEAST_SCALE = 1e-9
_HALF = 3.0
"""Logarithm of the rarity whose score is a half: one in 20. One in 1,500 has 0.71, one in a million 0.82."""


class Rarity(msgspec.Struct, frozen=True):
    """How rare a voice's scores are: `log_shares` are logarithms of the share of training rows at or above `scores`.

    Beyond the last score the share falls by e for each `scale`: an exponential tail, whose scale is the mean excess of
    the rows above (Pickands, "Statistical inference using extreme order statistics", 1975, with shape 0).
    """

    scores: list[float]
    log_shares: list[float]
    scale: float

    @classmethod
    def of(cls, scores: Floats) -> "Rarity":
        """Learn it from the scores of training rows."""
        ascending = np.sort(scores)
        n = len(ascending)
        ranks = np.geomspace(min(_TAIL_ROWS, n), n, _LEVELS).astype(int)
        known = np.unique(ascending[n - ranks])
        shares = 1.0 - np.searchsorted(ascending, known, "left") / n
        above = ascending[ascending > known[-1]]
        if not len(above):
            return cls(known.tolist(), np.log(shares).tolist(), _LEAST_SCALE)
        scale = max(float((above - known[-1]).mean()), _LEAST_SCALE)
        # Of many rows that are alike the last known score may be that of all of them.
        known, shares = np.r_[known, np.nextafter(known[-1], np.inf)], np.r_[shares, len(above) / n]
        return cls(known.tolist(), np.log(shares).tolist(), scale)

    def log_share(self, scores: Floats) -> Floats:
        """The logarithm of each score's share, at most 0."""
        beyond = np.maximum(scores - self.scores[-1], 0.0) / self.scale
        shares: Floats = np.interp(scores, self.scores, self.log_shares) - beyond
        return shares


def combined(log_shares: Floats) -> Floats:
    """The score of each row by the log shares of the voices, of shape (voices, n): 0 for the most ordinary, up to 1."""
    rarity = -log_shares.min(axis=0)
    # Not a power of the share, which is 1 for all that is far beyond the training.
    scores: Floats = rarity / (rarity + _HALF)
    return scores


@dataclass(frozen=True)
class Neighbours:
    """The distance to reference rows of the training day, which have shape (m, features used), standardized."""

    references: Floats

    @cached_property
    def _known(self) -> Flags:
        """The features that differ among the references. Of one that no source told then, any value would be far."""
        known: Flags = np.ptp(self.references, axis=0) > 0
        return known

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.references[:, self._known], leafsize=32)

    def score(self, rows: Floats) -> Floats:
        """The mean distance of each row of shape (n, features used) to the K nearest, in standard deviations."""
        distances, _ = self._tree.query(rows[:, self._known], k=range(1, 1 + min(K, len(self.references))))
        means: Floats = distances.mean(axis=1)
        return means

    def score_references(self) -> Floats:
        """The same of the references, each without itself."""
        distances, _ = self._tree.query(
            self.references[:, self._known], k=range(2, 2 + min(K, len(self.references) - 1))
        )
        means: Floats = distances.mean(axis=1)
        return means

    def shares(self, rows: Floats) -> Floats:
        """Each feature's part of the mean squared distance to the K nearest. Shape (n, features used), each sum 1."""
        _, nearest = self._tree.query(rows[:, self._known], k=range(1, 1 + min(K, len(self.references))))
        parts = ((self.references[nearest] - rows[:, None, :]) ** 2).mean(axis=1) * self._known
        total = parts.sum(axis=1, keepdims=True)
        shares: Floats = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
        return shares


def draw_references(n: int) -> NDArray[np.intp]:
    """The places of the references among n rows of training, the same for every seed of a forest."""
    return np.random.default_rng(n).permutation(n)[:REFERENCES]
