"""A trained model: its two voices and its card. Of the forest there is a compact form for live batches.

scikit-learn walks the forest tree by tree, with a dozen Python calls for each: nearly all of the time of one row. Here
few rows walk all trees at once, one level a step, and many rows walk tree by tree in scikit-learn's own compiled code.
Order and types are scikit-learn's (float32 rows against float64 thresholds, depths added tree by tree), so that scores
are identical to the last digit.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from txwatch.detection.answers import BASE, Taught, leaf_weights
from txwatch.detection.patterns import ENOUGH_ROWS, Patterns, shapes_of, worth
from txwatch.detection.threshold import RecentScores, following_threshold
from txwatch.detection.voices import Neighbours, Rarity, combined
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURES, contract_fingerprint

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FEW_ROWS = 128
"""Up to here walking all trees at once is faster: 0.1 ms against 3 ms for one row (scikit-learn: 30 ms)."""

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class CompactForest:
    """A fitted pipeline of `build_forest`. Nodes of all trees are numbered through; a leaf is its own child."""

    medians: Floats
    logarithmic: Indices
    linear: Indices
    mean: Floats
    scale: Floats
    roots: Indices
    depth: int
    feature: Indices
    threshold: Floats
    children: Indices
    """Shape (2 * nodes,): left child of node i at 2 * i, right child at 2 * i + 1."""
    path_length: Floats
    """Of each leaf: its depth and what its rows would add, as Liu et al. count it."""
    denominator: float
    trees: list[Any]
    """scikit-learn's own."""

    @classmethod
    def of(cls, pipeline: Any) -> "CompactForest":
        """Take a fitted pipeline apart."""
        from sklearn.ensemble._iforest import _average_path_length

        log, scaler, forest = (pipeline.named_steps[name] for name in ("log", "scale", "forest"))
        columns = {name: columns for name, _, columns in log.transformers_}
        trees = [estimator.tree_ for estimator in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        feature = np.concatenate([tree.feature for tree in trees]).astype(np.intp)
        leaf = feature < 0
        own = np.arange(len(feature))
        left, right = (
            np.concatenate([getattr(tree, side) + start for tree, start in zip(trees, starts, strict=False)])
            for side in ("children_left", "children_right")
        )
        children = np.stack([np.where(leaf, own, left), np.where(leaf, own, right)], axis=1)
        lengths = zip(forest._decision_path_lengths, forest._average_path_length_per_tree, strict=True)
        return cls(
            medians=pipeline.named_steps["impute"].statistics_,
            logarithmic=np.array(columns["log"], np.intp),
            linear=np.array(columns["keep"], np.intp),
            mean=scaler.mean_,
            scale=scaler.scale_,
            roots=starts[:-1].astype(np.intp),
            depth=max(tree.max_depth for tree in trees),
            feature=np.where(leaf, 0, feature),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            children=children.ravel().astype(np.intp),
            path_length=np.concatenate([depths + rest - 1.0 for depths, rest in lengths]),
            denominator=len(trees) * float(_average_path_length([forest.max_samples_])[0]),
            trees=trees,
        )

    @property
    def used(self) -> Indices:
        """The features that the forest sees, by their place in the contract."""
        return np.concatenate([self.logarithmic, self.linear])

    def rows(self, features: Floats) -> Floats:
        """The features used, standardized: shape (n, len(used)) of (n, features)."""
        known = np.where(np.isnan(features), self.medians, features)
        columns = np.hstack([np.log1p(known[:, self.logarithmic]), known[:, self.linear]])
        rows: Floats = (columns - self.mean) / self.scale
        return rows

    def score(self, rows: Floats) -> Floats:
        """2^(-E[h]/c) of each of these rows: Liu et al., "Isolation Forest", 2008. Shape (n,)."""
        (depths,) = self.sums(rows, self.path_length)
        return self.rated(depths)

    def rated(self, depths: Floats) -> Floats:
        """The score by the sum of path lengths."""
        scores: Floats = 2 ** -(depths / self.denominator)
        return scores

    def sums(self, rows: Floats, *values: Floats) -> list[Floats]:
        """The sums of these values, each of shape (nodes,), over the leaves of each row. Each of shape (n,)."""
        if len(rows) <= FEW_ROWS:
            at = self.leaves(rows)
            # A running sum adds tree by tree, as scikit-learn does; np.sum would pair them up: another last digit.
            return [np.cumsum(of_nodes[at], axis=0)[-1] for of_nodes in values]
        cut, results = rows.astype(np.float32), [np.zeros(len(rows)) for _ in values]
        for root, tree in zip(self.roots.tolist(), self.trees, strict=True):
            at = root + tree.apply(cut)
            for result, of_nodes in zip(results, values, strict=True):
                result += of_nodes[at]
        return results

    def leaves(self, rows: Floats) -> Indices:
        """The node in which each row ends, for each tree: shape (trees, n). Walks all trees at once."""
        n, width = rows.shape
        flat = rows.astype(np.float32).ravel()
        at = np.repeat(self.roots[:, None], n, axis=1)
        first = np.arange(n) * width
        for _ in range(self.depth):
            right = flat[first + self.feature[at]] > self.threshold[at]
            at = self.children[2 * at + right]
        return at


TREES = 250
"""With the neighbours beside them more trees find no more (docs/models.md has the table)."""
SAMPLES_PER_TREE = 1_024
"""Rows: so many that a pattern of one in a thousand reaches most trees, so few that its members isolate quickly."""


def build_forest(seed: int, *, trees: int = TREES, samples: int = SAMPLES_PER_TREE) -> "Pipeline":
    """An unfitted scikit-learn pipeline over the feature contract. Deterministic for a seed."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import IsolationForest
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    logarithmic = [i for i, feature in enumerate(FEATURES) if feature.forest and feature.log]
    linear = [i for i, feature in enumerate(FEATURES) if feature.forest and not feature.log]
    transformers = [("log", FunctionTransformer(np.log1p), logarithmic), ("keep", "passthrough", linear)]
    return Pipeline(
        [
            # A feature that is unknown throughout is kept, so that columns stay where the contract has them.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("log", ColumnTransformer(transformers)),
            ("scale", StandardScaler()),
            ("forest", IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed)),
        ]
    )


class ContractMismatchError(ValueError):
    """A model that was trained on other features than those at hand."""


class ModelCard(msgspec.Struct, frozen=True):
    """What a model was trained on, and its thresholds. Stored as JSON beside the pipeline. Times UTC."""

    contract: str
    """Fingerprint of the feature contract."""
    features: list[str]
    trained_from: datetime
    trained_to: datetime
    rows: int
    seed: int
    transactions_per_hour: float
    alerts_per_hour: float
    """The budget that the threshold was set for."""
    threshold: float
    """The threshold at `transactions_per_hour`."""
    highest_scores: list[float]
    """Of the rows, the highest first: what the threshold at another rate is read from."""
    seed_agreement: float
    """How far a forest of another seed agrees on the most unusual hundredth: a Jaccard index, 0 to 1."""
    medians: list[float]
    """Of each feature in training: what "ordinary" means in an explanation."""
    percentiles: list[list[float]]
    """For each feature its 0th to 100th percentile in training, 101 values."""
    material_sat: float
    """Value from which on a transaction is material (`txwatch.detection.patterns`)."""
    shapes: list[int]
    """Those of the rows: any other one is new, if there were enough (`txwatch.detection.patterns`)."""
    references: bytes
    """Rows that neighbours are sought among, standardized: float64, little-endian, one row after the other."""
    forest: Rarity
    neighbours: Rarity
    taught: Taught = Taught()
    """What was learnt from people's answers."""
    left_out: list[str] = []
    """Days between `trained_from` and `trained_to` that could not be read, each with the reason."""

    def to_json(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> "ModelCard":
        """Raises msgspec.ValidationError for anything but a card."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True)
class Model:
    """A pipeline that is ready to score. `version` is the registry's, and is written beside each score."""

    version: str
    pipeline: Any
    card: ModelCard

    def __post_init__(self) -> None:
        if self.card.contract != contract_fingerprint():
            raise ContractMismatchError(
                f"model version {self.version} was trained on feature contract {self.card.contract}, this program has"
                f" {contract_fingerprint()}: train a new model, or run the program that trained this one"
            )

    @property
    def threshold(self) -> float:
        """A score at or above this is unusual at the rate of the training."""
        return self.card.threshold

    def threshold_at(self, transactions_per_hour: float | None, recent: RecentScores | None = None) -> float:
        """The threshold that keeps the budget at this rate of traffic, which None leaves at that of the training."""
        card = self.card
        rate = card.transactions_per_hour if transactions_per_hour is None else transactions_per_hour
        return following_threshold(card.highest_scores, card.rows, rate, card.alerts_per_hour, recent)

    def worth(self, patterns: Patterns) -> Floats:
        """The factor of each score by its transaction's pattern. Shape (n,)."""
        return worth(patterns, ~np.isin(shapes_of(patterns), self._known) & (self.card.rows >= ENOUGH_ROWS))

    @cached_property
    def _known(self) -> Patterns:
        return np.array(self.card.shapes, np.int64)

    def score(self, features: Floats) -> Floats:
        """The anomaly score of each row, from 0 up to 1: how rare it is by the voice that finds it rarer.

        `features` has shape (n, len(FEATURE_NAMES)), NaN where unknown. Higher is more unusual.
        """
        return combined(self.log_shares(features)) if len(features) else np.empty(0)

    def log_shares(self, features: Floats) -> Floats:
        """By the forest and by the neighbours, the logarithm of the share of training rows as unusual. Shape (2, n).

        People's answers have moved it: it is the power `exponents` of the share.
        """
        rows = self.compact.rows(features)
        depths, *answers = self.compact.sums(rows, self.compact.path_length, *self._leaf_weights)
        forest, distances = self.compact.rated(depths), self.neighbours.score(rows)
        shares = np.stack([self.card.forest.log_share(forest), self.card.neighbours.log_share(distances)])
        return shares * BASE ** answers[0] if answers else shares

    def exponents(self, features: Floats) -> Floats:
        """By how much people's answers make each row rarer: above 1 what is like useful alerts, below 1 noise."""
        answers = self.compact.sums(self.compact.rows(features), *self._leaf_weights)
        exponents: Floats = BASE ** answers[0] if answers else np.ones(len(features))
        return exponents

    def without_answers(self) -> "Model":
        """The voices alone."""
        return replace(self, card=msgspec.structs.replace(self.card, taught=Taught()))

    @cached_property
    def _leaf_weights(self) -> list[Floats]:
        taught = self.card.taught
        if not taught.weights:
            return []
        leaves = self.compact.leaves(taught.decoded())
        return [leaf_weights(leaves, taught.weights, len(self.compact.feature))]

    @cached_property
    def compact(self) -> CompactForest:
        """The pipeline as flat arrays, whose scores are scikit-learn's."""
        return CompactForest.of(self.pipeline)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The reference rows."""
        flat = np.frombuffer(self.card.references, "<f8")
        return Neighbours(flat.reshape(-1, len(self.compact.used)))

    def percentile(self, feature: int, value: float) -> float:
        """Where a value stands among those seen in training, 0 to 100."""
        grid = self.card.percentiles[feature]
        return float(np.searchsorted(grid, value, "left") + np.searchsorted(grid, value, "right") - 1) / 2
