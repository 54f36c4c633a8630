"""What people answer below alerts moves the ranking: what is like a useful one scores higher, what is like noise lower.

Two transactions are alike by the share of trees in which both end in the same leaf (Breiman's proximity). From alerts
that were judged (useful 1, noise -1) ridge regression over the leaves predicts an answer for any transaction: each leaf
has a weight, its prior is 0, and where nothing alike was judged the model says what it said before. That is active
anomaly discovery (Das et al., "Incorporating feedback into tree-based anomaly detection", 2017), with a squared loss in
the place of its hinge: it has a closed form, whose solution is one number for each judged transaction.

A quarter of the answers, by txid, is never learnt from: by these the gate judges whether learning helped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from txwatch.features.batch import Flags, Floats

MIN_ANSWERS = 20
RIDGE = 1.0
"""Of the regression: one answer moves what is exactly alike half of the way."""
BASE = 4.0
"""A predicted answer p makes a rarity its power of BASE^p: of noise one in 10,000 becomes one in 10."""
_UNSEEN_OF = 4


class Taught(msgspec.Struct, frozen=True):
    """Judged rows as the model sees them (float64, little-endian, one after the other), and their weights."""

    rows: bytes = b""
    weights: list[float] = []

    def decoded(self) -> Floats:
        """The rows, of shape (answers, features used)."""
        flat = np.frombuffer(self.rows, "<f8")
        return flat.reshape(len(self.weights), -1) if self.weights else flat.reshape(0, 0)


@dataclass(frozen=True)
class Answers:
    """Judged transactions: their features, of shape (n, len(FEATURE_NAMES)), and which of them are useful."""

    txids: Sequence[str]
    features: Floats
    useful: Flags

    def __len__(self) -> int:
        return len(self.txids)

    def split(self) -> tuple["Answers", "Answers"]:
        """Those to learn from, and those that are never learnt from."""
        unseen = np.array([is_unseen(txid) for txid in self.txids], np.bool_)
        return self._at(~unseen), self._at(unseen)

    def _at(self, flags: Flags) -> "Answers":
        txids = [txid for txid, is_there in zip(self.txids, flags.tolist(), strict=True) if is_there]
        return Answers(txids, self.features[flags], self.useful[flags])


def is_unseen(txid: str) -> bool:
    """Whether answers to this transaction are never learnt from."""
    return int(txid[-4:], 16) % _UNSEEN_OF == 0


def learn(leaves: NDArray[np.intp], useful: Flags) -> list[float]:
    """The weight of each judged row. `leaves`, of shape (trees, n), are the leaves in which they end."""
    trees, n = leaves.shape
    alike = np.zeros((n, n))
    for of_tree in leaves:
        alike += of_tree[:, None] == of_tree[None, :]
    weights: list[float] = np.linalg.solve(alike / trees + RIDGE * np.eye(n), np.where(useful, 1.0, -1.0)).tolist()
    return weights


def leaf_weights(leaves: NDArray[np.intp], weights: Sequence[float], nodes: int) -> Floats:
    """What each node adds to the predicted answer of a row that ends in it. Shape (nodes,)."""
    trees = len(leaves)
    result = np.zeros(nodes)
    np.add.at(result, leaves.ravel(), np.tile(np.array(weights) / trees, trees))
    return result


def agreement(scores: Floats, useful: Flags) -> float | None:
    """Of pairs of a useful alert and noise, the share in which the useful one scores higher; equal ones count half.

    None without a pair.
    """
    differences = scores[useful][:, None] - scores[~useful][None, :]
    return float((np.sign(differences) / 2 + 0.5).mean()) if differences.size else None
