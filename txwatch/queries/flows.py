"""The direction of a whale's movement, in the words of pages and answers."""

from collections.abc import Mapping
from typing import Literal

from txwatch.labels.flows import FlowClass

Flow = Literal["inflow", "outflow", "internal", "between exchanges", "unknown"]
FLOWS: tuple[Flow, ...] = ("inflow", "outflow", "internal", "between exchanges", "unknown")

WORDS: Mapping[FlowClass, Flow] = {
    "exchange_in": "inflow",
    "exchange_out": "outflow",
    "internal_move": "internal",
    "exchange_to_exchange": "between exchanges",
    "unknown": "unknown",
}
"""Of each class of `txwatch.labels.flows`."""
