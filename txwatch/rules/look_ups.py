"""What is not in the transactions themselves and has to be looked up: labels, the watch list, payers and sources.

It costs queries, so it is asked once for a batch, and only of the rows on which a rule still depends on it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from txwatch.features.batch import NO_ADDRESS, Coins, Flags, TransactionBatch
from txwatch.labels.flows import Coin, Flow, flow_of
from txwatch.labels.label import EXCHANGE, UNKNOWN, Known, Label
from txwatch.labels.store import read_known
from txwatch.rules.rule import Flows, Found, Labelled, Leaf, Number, Party, ToldBy
from txwatch.rules.terms import nearest
from txwatch.store.database import Connection, statement
from txwatch.store.prices import PriceOf, StoredPrices, no_price


@dataclass(frozen=True)
class LookUps:
    """Where to look. By default nothing is known, as where there is no database.

    `labels_of` and `watched_of` give what is known of addresses, `payers_of` the addresses that transactions spend
    from, by txid, and `sources_of` the source that told of each transaction first.
    """

    labels_of: Callable[[Iterable[str]], Mapping[str, Known]] = lambda _: {}
    watched_of: Callable[[Collection[str]], Collection[str]] = lambda _: ()
    payers_of: Callable[[Collection[str]], Mapping[str, Collection[str]]] = lambda _: {}
    sources_of: Callable[[Collection[str]], Mapping[str, str]] = lambda _: {}
    price_of: PriceOf = no_price

    @classmethod
    def stored(cls, connection: Connection) -> "LookUps":
        """The database as it is when it is asked."""
        return cls(
            partial(read_known, connection),
            partial(_watched, connection),
            partial(_payers, connection),
            partial(_sources, connection),
            StoredPrices(connection),
        )


def _watched(connection: Connection, addresses: Collection[str]) -> set[str]:
    rows = connection.execute("SELECT address FROM watch_list WHERE address = ANY(%s)", [list(addresses)])
    return {address for (address,) in rows}


def _payers(connection: Connection, txids: Collection[str]) -> dict[str, list[str]]:
    return dict(connection.execute(statement("rules", "payers"), {"txids": list(txids)}).fetchall())


def _sources(connection: Connection, txids: Collection[str]) -> dict[str, str]:
    return dict(connection.execute(statement("rules", "first_sources"), {"txids": list(txids)}).fetchall())


def is_looked_up(leaf: Leaf) -> bool:
    """Whether a comparison needs more than the transaction, its features and what was found in it."""
    return not isinstance(leaf, Number | Found)


def never_true(connection: Connection, leaves: Iterable[Leaf]) -> list[str]:
    """Why comparisons can be true of nothing: a sentence for each that fits no label, or no watched address."""
    asked = [leaf for leaf in dict.fromkeys(leaves) if isinstance(leaf, Labelled | Flows)]
    if not asked:
        return []
    rows = connection.execute("SELECT DISTINCT source, entity, category FROM labels")
    labels = [Label("", source, entity, category) for source, entity, category in rows]
    watches = connection.execute("SELECT FROM watch_list LIMIT 1").fetchone() is not None
    said = {leaf: _fits_nothing(leaf, labels, watches=watches) for leaf in asked}
    return [f"`{leaf}` is never true: {why}" for leaf, why in said.items() if why]


def _fits_nothing(leaf: Labelled | Flows, labels: Sequence[Label], *, watches: bool) -> str:
    """Why a comparison fits nothing that is known now, or the empty text."""
    if isinstance(leaf, Flows):
        needs = labels if leaf.kind == "internal_move" else [one for one in labels if one.category == EXCHANGE]
        return "" if needs or leaf.kind == UNKNOWN else "it needs labels of exchanges, and there are none"
    if leaf.by == "watched":
        return "" if watches else "no address is watched"
    if any(leaf.fits(Known((label,))) for label in labels):
        return ""
    if not labels:
        return "there are no labels"
    names = [label.party if leaf.by == "entity" else str(getattr(label, leaf.by)) for label in labels]
    return f"no label fits{nearest(leaf.pattern, dict.fromkeys(names))}"


@dataclass(frozen=True)
class LookedUp:
    """What was found for some rows of a batch; of the other rows nothing is known."""

    parties: Mapping[Party, Mapping[int, Collection[str]]] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    watched: Collection[str] = ()
    flows: Mapping[int, Flow] = field(default_factory=dict)
    sources: Mapping[int, str] = field(default_factory=dict)

    def holds(self, leaf: Leaf, rows: range) -> Flags:
        """In which of these rows a comparison that is looked up holds."""
        found: list[int] = []
        match leaf:
            case Flows(kind):
                found = [row for row, flow in self.flows.items() if flow.kind == kind]
            case ToldBy(source):
                found = [row for row, told in self.sources.items() if told == source]
            case Labelled(party):
                found = [row for row in self.parties.get(party, {}) if self.fitting(leaf, row)]
        flags = np.zeros(len(rows), np.bool_)
        flags[[row - rows.start for row in found]] = True
        return flags

    def fitting(self, leaf: Labelled, row: int) -> list[str]:
        """The addresses of the party in a row whose labels fit, in order."""
        addresses = self.parties.get(leaf.party, {}).get(row, ())
        if leaf.by == "watched":
            return sorted(address for address in addresses if address in self.watched)
        return sorted(address for address in addresses if address in self.known and leaf.fits(self.known[address]))


def look_up(batch: TransactionBatch, rows: Sequence[int], leaves: Collection[Leaf], look_ups: LookUps) -> LookedUp:
    """Look up what these comparisons need of these rows: a query for each kind of thing, whatever their number."""
    parties = _parties(batch, rows, {leaf.party for leaf in leaves if isinstance(leaf, Labelled)}, look_ups)
    needs_flows = any(isinstance(leaf, Flows) for leaf in leaves)
    inputs = _coins(batch, batch.inputs, rows) if needs_flows else {}
    outputs = _coins(batch, batch.outputs, rows) if needs_flows else {}
    labelled = {leaf.party for leaf in leaves if isinstance(leaf, Labelled) and leaf.by != "watched"}
    wanted = {address for party in labelled for found in parties[party].values() for address in found}
    wanted |= {address for side in (inputs, outputs) for coins in side.values() for address, _ in coins if address}
    known = look_ups.labels_of(wanted) if wanted else {}
    watched = {leaf.party for leaf in leaves if isinstance(leaf, Labelled) and leaf.by == "watched"}
    asked = {address for party in watched for found in parties[party].values() for address in found}
    # Without a label on any side a flow is unknown, which it is without being worked out.
    flows = {row: flow_of(inputs[row], outputs[row], known) if known else Flow() for row in inputs}
    sources: Mapping[str, str] = {}
    if any(isinstance(leaf, ToldBy) for leaf in leaves):
        sources = look_ups.sources_of([batch.txids[row] for row in rows])
    return LookedUp(
        parties,
        known,
        look_ups.watched_of(asked) if asked else (),
        flows,
        {row: sources[txid] for row in rows if (txid := batch.txids[row]) in sources},
    )


def _coins(batch: TransactionBatch, coins: Coins, rows: Sequence[int]) -> dict[int, list[Coin]]:
    """The coins of one side of these rows, which are in order."""
    firsts, lasts = np.searchsorted(coins.tx, rows, "left").tolist(), np.searchsorted(coins.tx, rows, "right").tolist()
    return {
        row: [
            (None if number == NO_ADDRESS else batch.addresses[number], value)
            for number, value in zip(coins.address[first:last].tolist(), coins.value[first:last].tolist(), strict=True)
        ]
        for row, first, last in zip(rows, firsts, lasts, strict=True)
    }


def _parties(
    batch: TransactionBatch, rows: Sequence[int], wanted: Collection[Party], look_ups: LookUps
) -> dict[Party, dict[int, set[str]]]:
    """The addresses of each wanted party, by row."""
    parties: dict[Party, dict[int, set[str]]] = {}
    if wanted:
        senders = {row: {a for a, _ in coins if a} for row, coins in _coins(batch, batch.inputs, rows).items()}
        parties["sender"] = senders
        if "receiver" in wanted:
            outputs = _coins(batch, batch.outputs, rows)
            parties["receiver"] = {row: {a for a, _ in coins if a} - senders[row] for row, coins in outputs.items()}
        if "payer" in wanted:
            firsts = np.searchsorted(batch.inputs.tx, rows, "left").tolist()
            lasts = np.searchsorted(batch.inputs.tx, rows, "right").tolist()
            spent = {
                row: {txid for txid in batch.spent_txids[first:last] if txid is not None}
                for row, first, last in zip(rows, firsts, lasts, strict=True)
            }
            payers = look_ups.payers_of(set().union(*spent.values()))
            parties["payer"] = {
                row: {address for txid in txids for address in payers.get(txid, ())} for row, txids in spent.items()
            }
    return parties
