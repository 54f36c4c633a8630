"""Transactions that are replaced before they are mined: sent again, spending the same coins for a higher fee (BIP 125).

Only plants whose coins nobody else spends are replaced: what spends an output of a transaction that is never mined
could not be mined either.
"""

import heapq
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from txwatch.simulator.draws import Draws
from txwatch.simulator.spending import Draft

REPLACED_KINDS = frozenset({"whale"})
REPLACED_SHARE = 0.2
"""What the local feed replaces of them."""

_DELAY_SECONDS = (20.0, 240.0)
_BUMP = (1.5, 4.0)


class Replacement(NamedTuple):
    """What is sent when, in seconds since the start, in place of which txid."""

    seconds: float
    replaces: str
    labels: tuple[str, ...]
    draft: Draft


class Replacements:
    """Those that are still to come, the next one first."""

    def __init__(self, draws: Draws, share: float) -> None:
        self._draws = draws
        self._share = share
        self._due: list[Replacement] = []

    @property
    def next_at(self) -> float:
        """When the next one comes; infinity for never."""
        return self._due[0].seconds if self._due else inf

    def consider(self, seconds: float, txid: str, labels: tuple[str, ...], draft: Draft) -> None:
        """Perhaps replace a transaction that was sent at this moment."""
        if self._draws.share() < self._share:
            at = seconds + self._draws.log_between(*_DELAY_SECONDS)
            heapq.heappush(self._due, Replacement(at, txid, labels, bumped(draft, self._draws.log_between(*_BUMP))))

    def pop(self) -> Replacement:
        """The next one, which is taken away."""
        return heapq.heappop(self._due)


def bumped(draft: Draft, factor: float) -> Draft:
    """The same payment for `factor` times the fee, which is taken from its last output, the change.

    At least the fee that relaying it again costs: 1 sat/vB on top.
    """
    more = max(int(draft.fee_sat * (factor - 1)), draft.sizes.vsize)
    *paid, change = draft.outputs
    return replace(draft, rbf=True, outputs=[*paid, replace(change, value=change.value - more)])
