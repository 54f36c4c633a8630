"""Between whom a transaction moves value, by the labels of its addresses.

The addresses that a transaction spends from belong to one owner (Meiklejohn et al., "A Fistful of Bitcoins", 2013): one
label among them names the sender, unless labels contradict each other. What is paid to the sender's own addresses is
change. A receiver counts if it gets a tenth of what is left, or more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from txwatch.labels.label import Known
from txwatch.wire.messages import SAT_PER_BTC

FlowClass = Literal["exchange_in", "exchange_out", "internal_move", "exchange_to_exchange", "unknown"]
FLOW_CLASSES: tuple[FlowClass, ...] = get_args(FlowClass)

MIN_RECEIVER_SHARE = 0.1
MAX_LEAVING_SHARE = 0.01
MAX_LEAVING_SAT = 100 * SAT_PER_BTC
"""What may go to addresses that are not known to be the sender's, while the move still counts as internal."""

Coin = tuple[str | None, float]
"""An address, None when the script has none, and an amount in satoshi."""


@dataclass(frozen=True)
class Flow:
    """A class, the names of those who paid and who were paid, and the sources of the labels that name them."""

    kind: FlowClass = "unknown"
    senders: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In words, with the sources."""
        return f"{self.between} (labels: {', '.join(self.sources)})" if self.sources else self.between

    @property
    def between(self) -> str:
        """In words, without the sources."""
        if self.kind == "internal_move":
            return f"within {' and '.join(self.senders)}"
        return f"from {' and '.join(self.senders) or 'unknown'} to {' and '.join(self.receivers) or 'unknown'}"


def flow_of(inputs: Sequence[Coin], outputs: Sequence[Coin], known: Mapping[str, Known]) -> Flow:
    """The flow of a transaction. Within any labelled entity it is internal; the other classes are about exchanges."""
    spent_from = {address for address, _ in inputs if address is not None}
    senders = {address: known[address] for address in spent_from if address in known}
    parties = frozenset[str]().union(*(sender.parties for sender in senders.values()))
    common = frozenset.intersection(*(sender.parties for sender in senders.values())) if senders else frozenset()

    leaving, paid, own = 0.0, dict[str, float](), list[str]()
    for address, value in outputs:
        if address in spent_from:
            continue
        if address is not None and address in known and known[address].parties & common:
            own.append(address)
            continue
        leaving += value
        if address is not None and address in known:
            paid[address] = paid.get(address, 0.0) + value
    little = min(MAX_LEAVING_SHARE * sum(value for _, value in outputs), MAX_LEAVING_SAT)
    if (own and leaving <= little) or (common and leaving == 0):
        return _flow("internal_move", senders, {address: known[address] for address in own})

    by_party: dict[str, float] = {}
    for address, value in paid.items():
        by_party[known[address].best.party] = by_party.get(known[address].best.party, 0.0) + value
    receivers = {
        address: known[address]
        for address in paid
        if by_party[known[address].best.party] >= MIN_RECEIVER_SHARE * leaving and not known[address].parties & parties
    }
    out = any(sender.is_exchange for sender in senders.values())
    into = any(receiver.is_exchange for receiver in receivers.values())
    if out and into:
        return _flow("exchange_to_exchange", senders, receivers)
    return _flow("exchange_in" if into else "exchange_out" if out else "unknown", senders, receivers)


def _flow(kind: FlowClass, senders: Mapping[str, Known], receivers: Mapping[str, Known]) -> Flow:
    sources = {known.best.source for known in (*senders.values(), *receivers.values())}
    return Flow(kind, _names(senders), () if kind == "internal_move" else _names(receivers), tuple(sorted(sources)))


def _names(known: Mapping[str, Known]) -> tuple[str, ...]:
    """Each entity once; of several spellings the first in order."""
    entities = sorted(((one.best.party, one.best.entity) for one in known.values()), reverse=True)
    return tuple(sorted(dict(entities).values()))
