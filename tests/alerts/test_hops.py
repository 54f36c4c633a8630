"""A coin of an alert that is spent again extends the alert's message, hop by hop, as a peel chain does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from tests.builders import T0, coin, spending
from tests.databases import empty_tables
from txwatch.alerts.hops import FOLLOWED_FOR, MOST_HOPS
from txwatch.alerts.store import read_sent_message
from txwatch.detection.rules import CurrentDetectors
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.lab.simulator.traffic import SimulatedTransaction, Simulator
from txwatch.live.lane import LiveScoring
from txwatch.sources.source import Removed, Seen
from txwatch.store.database import Connection, connect
from txwatch.system.demo import planted_and_told
from txwatch.wire.transaction import SpentOutput, Transaction

BTC = 100_000_000
MINUTE = timedelta(minutes=1)
NODE, FEED = "bitcoin-core", "blockchain.info"
STOLEN = coin("ab" * 32, value=1_300 * BTC)


def txid(n: int) -> str:
    return f"{n:064x}"


WHALE = spending(txid(1), STOLEN, pays=[("bc1qfirst", 1_250 * BTC), (STOLEN.addr or "", 50 * BTC - 1_000)])


def output_of(tx: Transaction, n: int = 0, *, outpoint: bool = True) -> SpentOutput:
    """A coin that a transaction made, as a node tells it, or as blockchain.info does."""
    made = tx.outputs[n]
    return SpentOutput(made.addr, made.value, made.type, made.n, tx.txid if outpoint else None)


def peel(n: int, spent: SpentOutput, part: int, minutes: float, *others: SpentOutput) -> Transaction:
    """The nth hop: a part of the coin goes to somebody, the rest to a new address, as its second output."""
    left = (spent.value or 0) - part - 1_000
    pays = [(f"bc1qpart{n}", part), (f"bc1qrest{n}", left)]
    return spending(txid(100 + n), spent, *others, pays=pays, seen_at=T0 + minutes * MINUTE)


@dataclass
class Lane:
    """The live lane, and the message about the whale."""

    connection: Connection
    now: datetime = T0
    woken: int = 0
    recent: RecentTxids = field(default_factory=RecentTxids)

    def __post_init__(self) -> None:
        self.hook = LiveScoring(lambda: None, CurrentDetectors(500), ("1",), self.wake, clock=lambda: self.now)

    def wake(self) -> None:
        self.woken += 1

    def tell(self, *transactions: Transaction, by: str = NODE, live: bool = True) -> None:
        self.now = max([self.now, *(tx.seen_at for tx in transactions)])
        batch = Batch(self.now, self.now)
        for tx in transactions:
            batch.add(Seen(tx), by, self.recent)
        commit(self.connection, batch, epoch=None, now=self.now, hook=self.hook, live=live)

    def message(self) -> list[str]:
        self.connection.execute(
            "UPDATE alert_deliveries SET state = 'sent', message_id = 7, sent_at = %s WHERE state = 'pending'", [T0]
        )
        if self.connection.execute("SELECT FROM alert_updates").fetchone() is None:
            return []
        return read_sent_message(self.connection, "1", WHALE.txid).updates

    def alerts(self) -> list[str]:
        return [key for (key,) in self.connection.execute("SELECT alert_key FROM alerts ORDER BY 1")]


@pytest.fixture
def lane(database_url: str) -> Iterator[Lane]:
    with connect(database_url) as connection:
        tables = "alerts, transactions, confirmations, blocks, sightings, spends, contested_outpoints, removals"
        empty_tables(connection, tables)
        lane = Lane(connection)
        lane.tell(WHALE)
        assert lane.woken == 1
        yield lane


def chain(hops: int, *, outpoint: bool = True) -> list[Transaction]:
    """One hop a minute, each of which peels 10 BTC off."""
    made = [peel(1, output_of(WHALE, outpoint=outpoint), 10 * BTC, 1)]
    for n in range(2, hops + 1):
        made.append(peel(n, output_of(made[-1], 1, outpoint=outpoint), 10 * BTC, n))
    return made


@pytest.mark.parametrize(("by", "outpoint"), [(NODE, True), (FEED, False)])
def test_each_hop_extends_the_message_by_the_rest_that_is_left(lane: Lane, by: str, outpoint: bool) -> None:
    for hop in chain(3, outpoint=outpoint):
        lane.tell(hop, by=by)
    assert lane.message() == [
        "⛓ 1st hop, 60 s, 1,240.00 BTC left",
        "⛓ 2nd hop, 2 min, 1,230.00 BTC left",
        "⛓ 3rd hop, 3 min, 1,220.00 BTC left",
    ]
    assert lane.woken == 4, "the delivery is woken for each"
    assert lane.alerts() == [WHALE.txid], "a hop is no alert of its own"


def test_hops_that_come_in_one_batch_are_told_in_their_order(lane: Lane) -> None:
    lane.tell(*chain(4))
    assert [line.split(",")[0] for line in lane.message()] == ["⛓ 1st hop", "⛓ 2nd hop", "⛓ 3rd hop", "⛓ 4th hop"]


def test_an_alert_and_its_first_hop_may_come_together(lane: Lane) -> None:
    empty_tables(lane.connection, "alerts, transactions, spends")
    lane.recent = RecentTxids()
    lane.tell(WHALE, *chain(1))
    assert lane.message() == ["⛓ 1st hop, 60 s, 1,240.00 BTC left"]


def test_what_was_kept_on_disk_while_the_database_was_away_is_followed_too(lane: Lane) -> None:
    lane.tell(*chain(1), live=False)
    lane.tell(chain(2)[1])
    assert len(lane.message()) == 2


def test_after_ten_hops_it_is_told_no_further(lane: Lane) -> None:
    lane.tell(*chain(14))
    assert len(lane.message()) == MOST_HOPS
    assert lane.message()[-1] == "⛓ 10th hop, 10 min, 1,150.00 BTC left"


def test_a_coin_that_is_joined_with_more_or_spread_over_many_is_followed_no_further(lane: Lane) -> None:
    first = chain(1)[0]
    merger = peel(2, output_of(first, 1), 10 * BTC, 2, coin("cd" * 32, value=5_000 * BTC))
    lane.tell(first, merger, peel(3, output_of(merger, 1), BTC, 3))
    assert lane.message()[1:] == ["⛓ 2nd hop, 2 min, joined with other coins"]


def test_a_coin_that_is_spread_is_told_by_how_many_outputs(lane: Lane) -> None:
    pays = [(f"bc1qto{n}", 31 * BTC) for n in range(40)]
    spread = spending(txid(200), output_of(WHALE), pays=pays, seen_at=T0 + 5 * MINUTE)
    lane.tell(spread, spending(txid(201), output_of(spread, 3), seen_at=T0 + 6 * MINUTE))
    assert lane.message() == ["⛓ 1st hop, 5 min, spread over 40 outputs"]


def test_other_coins_are_not_taken_for_it(lane: Lane) -> None:
    same_place = structs.replace(output_of(WHALE, outpoint=False), n=1)
    same_value = structs.replace(output_of(WHALE, outpoint=False), addr="bc1qother")
    change = output_of(WHALE, 1)
    for n, other in enumerate((same_place, same_value, change), start=1):
        lane.tell(peel(n, other, BTC, n))
    early = peel(9, output_of(WHALE, outpoint=False), BTC, -1)
    lane.tell(early)
    assert lane.message() == []


LOOK, COIN = output_of(WHALE, outpoint=False), output_of(WHALE)
HARD_NEGATIVES = [
    # By its look: all but one thing is the alerted coin's.
    *(structs.replace(LOOK, value=(LOOK.value or 0) + more) for more in (-BTC, -1_000, -1, 1, 1_000, BTC)),
    *(structs.replace(LOOK, n=n) for n in (1, 2, 3)),
    *(structs.replace(LOOK, addr=addr) for addr in ("bc1qfirst2", "bc1qfirs", "BC1QFIRST", None)),
    *(structs.replace(LOOK, type=kind) for kind in ("p2tr", "p2wsh", "other")),
    # By its outpoint: another transaction's coin of the same look, another output, and the change.
    structs.replace(COIN, txid=txid(2)),
    structs.replace(COIN, txid=WHALE.txid[::-1]),
    structs.replace(COIN, n=2),
    output_of(WHALE, 1),
]


def test_twenty_spends_of_coins_that_resemble_the_alerted_one_are_no_hops(lane: Lane) -> None:
    assert len(HARD_NEGATIVES) == 20
    assert COIN.type not in {"p2tr", "p2wsh", "other"}
    for n, other in enumerate(HARD_NEGATIVES):
        lane.tell(peel(n, other, BTC, n + 1), by=FEED if other.txid is None else NODE)
    assert lane.message() == []
    lane.tell(peel(50, COIN, BTC, 30))
    assert lane.message() == ["⛓ 1st hop, 30 min, 1,249.00 BTC left"], "the coin itself is followed all the same"


def test_a_hop_that_was_replaced_is_told_by_what_took_its_place(lane: Lane) -> None:
    first, bumped = peel(1, output_of(WHALE), 10 * BTC, 1), peel(2, output_of(WHALE), 11 * BTC, 2)
    lane.tell(first)
    lane.tell(bumped)
    batch = Batch(lane.now, lane.now)
    batch.add(Removed(first.txid, lane.now, bumped.txid), NODE, lane.recent)
    commit(lane.connection, batch, epoch=None, now=lane.now, hook=lane.hook)
    lane.tell(peel(3, output_of(bumped, 1), 10 * BTC, 3))
    assert lane.message() == ["⛓ 1st hop, 2 min, 1,239.00 BTC left", "⛓ 2nd hop, 3 min, 1,229.00 BTC left"]


def test_small_rests_and_old_alerts_are_followed_no_further(lane: Lane) -> None:
    small = peel(1, output_of(WHALE), 1_249 * BTC, 1)
    lane.tell(small, spending(txid(300), output_of(small, 1), seen_at=T0 + 2 * MINUTE))
    assert lane.message() == ["⛓ 1st hop, 60 s, 1,249.00 BTC left"]
    late = spending(txid(301), output_of(small, 0), seen_at=T0 + FOLLOWED_FOR + MINUTE)
    lane.tell(late)
    assert len(lane.message()) == 1


@pytest.mark.parametrize(("by", "outpoint"), [(NODE, True), (FEED, False)])
def test_planted_peel_chains_are_told_to_their_last_hop_and_storms_whole(
    lane: Lane, by: str, outpoint: bool, tmp_path: Path
) -> None:
    rates = {"whale": 60.0, "dust_storm": 12.0}
    simulator = Simulator(seed=2, start=T0, rate=0.2, plants_per_hour=rates, peeled_share=0.5)
    truth, began = tmp_path / "truth.jsonl", T0 - MINUTE
    lines = [msgspec.json.encode({"txid": txid(9), "labels": ["plant:peel_chain"], "at": T0 - 2 * MINUTE})]
    for minute in range(1, 31):
        sent = list(simulator.until(T0 + minute * MINUTE))
        lines += [msgspec.json.encode({"txid": s.txid, "labels": s.labels, "at": s.at}) for s in sent if s.labels]
        lane.tell(*(as_told(s, outpoint=outpoint) for s in sent), by=by)
    truth.write_bytes(b"\n".join(lines) + b"\n")
    for counted in planted_and_told(lane.connection, truth, began).values():
        assert counted["planted"] >= 40
        assert counted["told"] == counted["planted"], "what an earlier run planted does not count"


def as_told(simulated: SimulatedTransaction, *, outpoint: bool) -> Transaction:
    transaction = simulated.transaction("feed")
    if not outpoint:
        return transaction
    coins = zip(transaction.inputs, simulated.makers, strict=True)
    return structs.replace(transaction, inputs=[structs.replace(coin, txid=maker) for coin, maker in coins])


def test_of_many_that_seem_to_spend_one_coin_by_its_look_the_first_is_told(lane: Lane) -> None:
    look = structs.replace(output_of(WHALE, outpoint=False), addr="bc1qfirst", n=0)
    again = [
        spending(txid(1_000 + n), look, pays=[("bc1qfirst", 1_250 * BTC)], seen_at=T0 + MINUTE) for n in range(1_000)
    ]
    lane.tell(*again, by=FEED)
    told = lane.connection.execute("SELECT update_key FROM alert_updates WHERE alert_key = %s", [WHALE.txid])
    assert told.fetchall() == [(f"hop:{again[0].txid}",)]
