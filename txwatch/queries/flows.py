"""The direction of a movement, from what is known of the addresses on both sides."""

from collections.abc import Iterable, Mapping
from typing import Literal

Flow = Literal["inflow", "outflow", "internal", "between exchanges", "unknown"]
FLOWS: tuple[Flow, ...] = ("inflow", "outflow", "internal", "between exchanges", "unknown")


def flow_of(senders: Iterable[str], receivers: Iterable[str], entities: Mapping[str, str]) -> Flow:
    """The flow of a movement. `entities` names the exchange or service of each address that is known.

    Into or out of a known entity, within one, or between two; what returns to its sender says nothing.
    """
    sources = {entities[address] for address in senders if address in entities}
    targets = {entities[address] for address in receivers if address in entities}
    if sources and targets:
        return "between exchanges" if targets - sources else "internal"
    if targets:
        return "inflow"
    return "outflow" if sources else "unknown"
