"""Judge a batch by all rules at once, as arrays.

The distinct comparisons of all rules are one matrix, a row each, of which all numbers are compared in one step. What
would have to be looked up is open at first: a rule is followed with open comparisons once as true and once as false,
and `not` exchanges the two. Only rows on which the two differ are looked up. What is unknown (NaN) compares false.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from txwatch.clock import EPOCH
from txwatch.detection.reasons import Reason
from txwatch.detection.score import Score
from txwatch.features.batch import Flags, Floats, TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.foreign import one_line
from txwatch.rules.look_ups import LookedUp, LookUps, is_looked_up, look_up
from txwatch.rules.rule import AllOf, AnyOf, Found, Leaf, Not, Number, Rule, Tree, leaves
from txwatch.rules.wording import reason
from txwatch.wire.messages import SAT_PER_BTC


@dataclass(frozen=True)
class Traffic:
    """A batch of n transactions of one window, their features of shape (n, len(FEATURE_NAMES)), and rows by kind."""

    batch: TransactionBatch
    features: Floats
    kinds: Mapping[str, Flags] = field(default_factory=dict)

    def seen_at(self, row: int) -> datetime:
        """When the transaction of a row was seen, UTC."""
        return EPOCH + timedelta(microseconds=int(self.batch.seen_us[row]))


def kinds_of(scores: Sequence[Score]) -> dict[str, Flags]:
    """The rows in which each kind was found, tags and the forest's opinion among them."""
    found: dict[str, Flags] = {}
    for row, score in enumerate(scores):
        for kind in {one.kind for one in score.reasons} | ({"forest"} if score.score >= score.threshold else set()):
            found.setdefault(kind, np.zeros(len(scores), np.bool_))[row] = True
    return found


@dataclass(frozen=True, slots=True)
class Match:
    """A transaction that a rule fits, and why."""

    rule: Rule
    row: int
    txid: str
    seen_at: datetime
    reason: Reason


@dataclass
class Judged:
    """The matches, and the rules that could not be followed, each with the cause; `count` is of each rule's place."""

    matches: list[Match] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    count: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Step:
    """A tree with its comparisons as rows of the matrix: `own` are the parts that are comparisons themselves."""

    is_all: bool
    own: NDArray[np.intp]
    parts: "tuple[_Step | _Opposite, ...]"


@dataclass(frozen=True)
class _Opposite:
    part: _Step


MOST_CELLS = 4_000_000
"""Comparisons times rows that are looked at in one step: 32 MB. An ordinary batch is one step."""


class RuleSet:
    """Rules, prepared to be followed together."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.leaves: tuple[Leaf, ...] = tuple(dict.fromkeys(leaf for rule in self.rules for leaf in leaves(rule.when)))
        places = {leaf: place for place, leaf in enumerate(self.leaves)}
        self._steps = [_step(rule.when, places) for rule in self.rules]
        numbers = [(place, leaf) for place, leaf in enumerate(self.leaves) if isinstance(leaf, Number)]
        self._numbers = np.array([place for place, _ in numbers], np.intp)
        self._columns = np.array([FEATURE_NAMES.index(leaf.feature) for _, leaf in numbers], np.intp)
        self._low = np.array([leaf.low for _, leaf in numbers], np.float64)[:, None]
        self._high = np.array([leaf.high for _, leaf in numbers], np.float64)[:, None]
        self._in_usd = np.array([leaf.in_usd for _, leaf in numbers], np.bool_)[:, None]
        self._found = [(place, leaf.kind) for place, leaf in enumerate(self.leaves) if isinstance(leaf, Found)]
        self._open = [place for place, leaf in enumerate(self.leaves) if is_looked_up(leaf)]

    @property
    def in_usd(self) -> bool:
        """Whether any comparison is in USD."""
        return bool(self._in_usd.any())

    def judge(self, traffic: Traffic, look_ups: LookUps, *, recordable: bool = False) -> Judged:
        """The matches of all rules among these transactions. Raises what the look-ups raise, and nothing else.

        `recordable`: no more of a rule than can be recorded of an hour, so that one that matches everything costs
        little.
        """
        judged, n = Judged(), len(traffic.batch)
        if not self.rules or n == 0:
            return judged
        price = look_ups.price_of(traffic.seen_at(0)) if self.in_usd else None
        at_once = max(1, MOST_CELLS // max(1, len(self.leaves)))
        for first in range(0, n, at_once):
            self._judge_rows(traffic, range(first, min(first + at_once, n)), price, look_ups, judged, recordable)
        return judged

    def _judge_rows(
        self,
        traffic: Traffic,
        rows: range,
        price: float | None,
        look_ups: LookUps,
        judged: Judged,
        recordable: bool,
    ) -> None:
        truth = self._truth(traffic, rows, price)
        # As if what is open was false, and as if it was true.
        bounds = {False: truth, True: truth.copy() if self._open else truth}
        bounds[True][self._open] = True
        likely = [place for place in range(len(self.rules)) if self._fits(place, bounds, True, judged).any()]
        looked_up = LookedUp()
        if self._open and likely:
            undecided = np.zeros(len(rows), np.bool_)
            for place in likely:
                undecided |= self._fits(place, bounds, True, judged) & ~self._fits(place, bounds, False, judged)
            wanted = {leaf for place in likely for leaf in leaves(self.rules[place].when) if is_looked_up(leaf)}
            asked = [rows[row] for row in np.flatnonzero(undecided).tolist()]
            looked_up = look_up(traffic.batch, asked, wanted, look_ups)
            for place in self._open:
                truth[place] = bounds[True][place] = looked_up.holds(self.leaves[place], rows)
        for place in likely:
            rule = self.rules[place]
            left = rule.recorded_per_hour - judged.count[place] if recordable else len(rows)
            columns = np.flatnonzero(self._fits(place, bounds, False, judged))[:left].tolist()
            judged.count[place] += len(columns)
            for column in columns:
                row = rows[column]
                held = {self.leaves[place] for place in np.flatnonzero(truth[:, column]).tolist()}
                with _kept_apart(rule, judged):
                    said = reason(rule, held, traffic.features[row], looked_up, row, price)
                    judged.matches.append(Match(rule, row, traffic.batch.txids[row], traffic.seen_at(row), said))

    def _truth(self, traffic: Traffic, rows: range, price: float | None) -> NDArray[np.bool_]:
        """Which comparison holds in which row, shape (leaves, rows); what is open as false."""
        span = slice(rows.start, rows.stop)
        truth = np.zeros((len(self.leaves), len(rows)), np.bool_)
        if len(self._numbers):
            satoshi = np.where(self._in_usd, np.nan if price is None else SAT_PER_BTC / price, 1.0)
            values = traffic.features[span, self._columns].T
            truth[self._numbers] = (values >= self._low * satoshi) & (values <= self._high * satoshi)
        for place, kind in self._found:
            if kind in traffic.kinds:
                truth[place] = traffic.kinds[kind][span]
        return truth

    def _fits(self, place: int, bounds: Mapping[bool, Flags], possibly: bool, judged: Judged) -> Flags:
        """The rows that a rule fits, none if it cannot be followed."""
        with _kept_apart(self.rules[place], judged):
            return _follow(self._steps[place], bounds, possibly)
        return np.zeros(bounds[False].shape[1], np.bool_)


@contextmanager
def _kept_apart(rule: Rule, judged: Judged) -> Iterator[None]:
    """Note what one rule fails of, so that it holds up neither the others nor the lane."""
    try:
        yield
    except Exception as error:
        judged.failed[rule.name] = one_line(f"{type(error).__name__}: {error}")


def _step(tree: Tree, places: Mapping[Leaf, int]) -> _Step | _Opposite:
    match tree:
        case Not(part):
            inner = _step(part, places)
            # Twice the opposite is the thing itself.
            return inner.part if isinstance(inner, _Opposite) else _Opposite(inner)
        case AllOf(parts) | AnyOf(parts):
            own = [places[part] for part in parts if not isinstance(part, AllOf | AnyOf | Not)]
            inner_parts = tuple(_step(part, places) for part in parts if isinstance(part, AllOf | AnyOf | Not))
            return _Step(isinstance(tree, AllOf), np.array(own, np.intp), inner_parts)
    return _Step(True, np.array([places[tree]], np.intp), ())


def _follow(step: _Step | _Opposite, bounds: Mapping[bool, Flags], possibly: bool) -> Flags:
    """The rows in which a tree holds, with what is open as true where that makes it hold `possibly`."""
    if isinstance(step, _Opposite):
        return ~_follow(step.part, bounds, not possibly)
    parts = [bounds[possibly][place] for place in step.own.tolist()]
    parts += [_follow(part, bounds, possibly) for part in step.parts]
    return reduce(np.logical_and if step.is_all else np.logical_or, parts)
