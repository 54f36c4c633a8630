"""A label: what one source says of an address."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import msgspec

EXCHANGE = "exchange"
UNKNOWN = "unknown"

CONFIDENCE = (
    "ownership",
    "manual_transaction",
    "service_api",
    "authority_data",
    "trusted_provider",
    "service_data",
    "forensic",
    "untrusted_transaction",
    "web_crawl",
    "heuristic",
    UNKNOWN,
)
"""GraphSense's words for how much a label is worth, the most certain first."""


class Label(msgspec.Struct, frozen=True):
    """What `source` says of an address: that it belongs to `entity`, and a `note` of what it says besides.

    `category` and `confidence` are words of GraphSense's. `changed_on` is the day of the source's own last change.
    """

    address: str
    source: str
    entity: str
    category: str = UNKNOWN
    confidence: str = UNKNOWN
    note: str = ""
    changed_on: date | None = None

    @property
    def party(self) -> str:
        """The entity in the form in which two names of it are the same: `Crypto.com` and `crypto com`."""
        return "".join(c for c in self.entity.casefold() if c.isalnum())


@dataclass(frozen=True)
class Known:
    """What all sources say of one address, the most certain first. Never empty."""

    labels: tuple[Label, ...]

    @property
    def best(self) -> Label:
        """The most certain one."""
        return self.labels[0]

    @property
    def parties(self) -> frozenset[str]:
        """Every name that it has."""
        return frozenset(label.party for label in self.labels)

    @property
    def is_exchange(self) -> bool:
        """Whether any source says so."""
        return any(label.category == EXCHANGE for label in self.labels)


def known_by_address(labels: Iterable[Label]) -> dict[str, Known]:
    """The labels by address, each address's in order of certainty."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        found.setdefault(label.address, []).append(label)
    return {address: Known(tuple(sorted(of, key=_certainty))) for address, of in found.items()}


def _certainty(label: Label) -> tuple[int, str]:
    rank = CONFIDENCE.index(label.confidence) if label.confidence in CONFIDENCE else len(CONFIDENCE)
    return rank, label.source
