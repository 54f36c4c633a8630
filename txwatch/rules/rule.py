"""A rule of a user's own: what it says of a transaction, and what becomes of a match.

The tree is plain and frozen. What a comparison is made against is worked out once, when the rule is read: amounts in
satoshi, or USD where the price of the moment decides.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

from txwatch.detection.kinds import RULE_PREFIX, Severity
from txwatch.labels.label import Known

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,39}|-?\d{1,20}|@\w{1,40}")
"""A channel's name, or the id or name of a chat."""
ALERTS_PER_HOUR = 20
MOST_ALERTS_PER_HOUR = 1_000
MOST_UNTOLD = 100
"""Matches of a rule in an hour of the clock that are recorded besides those that alert: held back, or in test."""


Mode = Literal["active", "test", "off"]
"""What becomes of a match: it alerts, it is recorded alone, or the rule is not looked at."""
MODES: tuple[Mode, ...] = get_args(Mode)
Party = Literal["sender", "receiver", "payer"]
"""Who is spent from, who is paid and not spent from, and who paid the coins that are spent: one hop before."""


@dataclass(frozen=True, slots=True)
class Number:
    """A feature that is at least `low` and at most `high`, both of its own unit, or in USD. NaN is neither.

    `text` is the comparison as it was written, without the feature.
    """

    feature: str
    low: float
    high: float
    text: str
    in_usd: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A kind that the detectors or the forest found in the transaction."""

    kind: str


@dataclass(frozen=True, slots=True)
class Flows:
    """The class of the flow, by labels."""

    kind: str

    def __str__(self) -> str:
        """As it is written."""
        return f"flow = {self.kind}"


@dataclass(frozen=True, slots=True)
class ToldBy:
    """The source that told of the transaction first."""

    source: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """An address of a party has a label that fits, or is watched.

    `pattern`, in which `*` stands for any characters, is of the label's entity (as `Label.party`), category or source.
    """

    party: Party
    by: Literal["known", "watched", "entity", "category", "source"]
    pattern: str = "*"

    def __str__(self) -> str:
        """As it is written."""
        name = self.pattern.replace("[[]", "[").replace("[?]", "?")
        return f"{self.party} matches label {self.by}" + ("" if self.by in {"known", "watched"} else f" {name}")

    def fits(self, known: Known) -> bool:
        """Whether one of these labels fits. Not asked of the watch list."""
        if self.by == "entity":
            return any(fnmatchcase(party, self.pattern) for party in known.parties)
        return self.by == "known" or any(
            fnmatchcase((label.category if self.by == "category" else label.source).casefold(), self.pattern)
            for label in known.labels
        )


Leaf: TypeAlias = Number | Found | Flows | ToldBy | Labelled


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each part holds."""

    parts: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Tree"


Tree: TypeAlias = AllOf | AnyOf | Not | Leaf


def leaves(tree: Tree) -> list[Leaf]:
    """The comparisons of a tree, in the order in which they are written."""
    if isinstance(tree, AllOf | AnyOf):
        return [leaf for part in tree.parts for leaf in leaves(part)]
    return leaves(tree.part) if isinstance(tree, Not) else [tree]


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of a rule. `version` counts from 1 in the database, 0 before.

    At most `alerts_per_hour` matches of one hour of the clock alert. With `one_alert_within`, matches of one pattern
    that are nearer to each other than this are one alert.
    """

    name: str
    text: str
    severity: Severity
    when: Tree
    mode: Mode = "off"
    channels: tuple[str, ...] = ()
    alerts_per_hour: int = ALERTS_PER_HOUR
    one_alert_within: timedelta | None = None
    version: int = 0

    @property
    def kind(self) -> str:
        """The kind of its alerts."""
        return RULE_PREFIX + self.name

    @property
    def recorded_per_hour(self) -> int:
        """The most matches of an hour of the clock that are recorded."""
        return self.alerts_per_hour + MOST_UNTOLD
