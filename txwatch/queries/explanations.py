"""Reasons as they were stored with a score or an alert."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """One reason, in words. A forest's names its feature, the value, and its percentile in the training traffic."""

    kind: str
    text: str
    feature: str | None = None
    value: float | None = None
    percentile: float | None = None


def explanations(stored: Iterable[Mapping[str, Any]]) -> list[Explanation]:
    """The reasons of a stored score or alert, in their order. Fields that this program does not know are left out."""
    return [
        Explanation(
            kind=str(reason.get("kind", "")),
            text=str(reason.get("text", "")),
            feature=reason.get("feature"),
            value=reason.get("value"),
            percentile=reason.get("percentile"),
        )
        for reason in stored
    ]
