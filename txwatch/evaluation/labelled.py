"""Transactions with what is known about them: from captures, or from the simulator, which knows what it planted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from txwatch.captures import read_capture
from txwatch.places import Place
from txwatch.simulator.plants import PLANTS_PER_HOUR
from txwatch.simulator.traffic import Simulator
from txwatch.wire.messages import MalformedMessageError, UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Labelled:
    """Transactions, and the first label of each, None for most. `malformed` messages were left out."""

    transactions: list[Transaction]
    labels: list[str | None]
    malformed: int = 0

    def __len__(self) -> int:
        return len(self.transactions)

    def rows(self, label: str | None) -> list[int]:
        """The places of the transactions with this label."""
        return [row for row, known in enumerate(self.labels) if known == label]

    def only(self, label: str | None) -> "Labelled":
        """Those with this label."""
        rows = self.rows(label)
        return Labelled([self.transactions[row] for row in rows], [label] * len(rows))


def read_labelled(paths: Iterable[Place]) -> Labelled:
    """The transactions of these captures; one that occurs twice is taken once.

    Raises txwatch.captures.CaptureError and OSError.
    """
    transactions: dict[str, Transaction] = {}
    labels: dict[str, str | None] = {}
    malformed = 0
    for path in paths:
        for captured in read_capture(path):
            try:
                message = decode(captured.message)
                if not isinstance(message, UnconfirmedTransaction):
                    continue
                tx = from_wire(message.x, captured.received_at or _NO_TIME, "bulk")
            except MalformedMessageError:
                malformed += 1
                continue
            if tx.txid not in transactions:
                transactions[tx.txid] = tx
                labels[tx.txid] = captured.labels[0] if captured.labels else None
    return Labelled(list(transactions.values()), list(labels.values()), malformed)


def simulate(
    regime: str,
    *,
    seed: int,
    start: datetime,
    duration: timedelta,
    rate: float | None = None,
    plants_per_hour: Mapping[str, float] = PLANTS_PER_HOUR,
) -> Labelled:
    """Simulated traffic in order of arrival. A plant's label is `plant:` and its kind. See `Simulator`."""
    simulator = Simulator(regime, seed=seed, start=start, rate=rate, plants_per_hour=plants_per_hour)
    transactions, labels = [], []
    for simulated in simulator.until(start + duration):
        transactions.append(simulated.transaction("bulk"))
        labels.append(simulated.labels[0] if simulated.labels else None)
    return Labelled(transactions, labels)
