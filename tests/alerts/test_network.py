"""The network itself: each condition is one alert while it lasts, whose message is edited at its end."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from tests.builders import T0, transaction
from txwatch.alerts.alert import is_of_transaction
from txwatch.alerts.conditions import LastAlert, State, condition_alerts, condition_ends, read_raised
from txwatch.alerts.messages import alert_lines, to_html
from txwatch.alerts.network import (
    LASTS_AT_MOST,
    Fingerprint,
    Measured,
    Network,
    network_conditions,
    read_network,
)
from txwatch.alerts.store import insert_alerts, insert_updates, read_alerts
from txwatch.clock import window_start
from txwatch.features.network import publish_network_baseline
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, record_gaps
from txwatch.store.lease import renew_lease, take_lease
from txwatch.store.sightings import FollowedSource, note_sources
from txwatch.store.transactions import land_blocks, land_transactions
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import CreatedOutput, Transaction

MINUTE = timedelta(minutes=1)
SOURCE = "blockchain.info"
NOTHING = Measured(None, None)
INSCRIPTION = Fingerprint(1, 1, "p2tr", 546)
FAN_OUT = Fingerprint(1, 12, "p2wpkh", 10_000)


@dataclass
class World:
    """A feed and its database, by one clock. Ordinarily a transaction comes every three seconds, at 10 sat/vB."""

    connection: Connection
    epoch: int
    now: datetime = T0
    landed: int = 0
    height: int = 840_000
    keys: list[str] = field(default_factory=list)

    def live(
        self, minutes: float, *, every: float = 3.0, fee_rate: int = 10, pattern: Fingerprint | None = None
    ) -> None:
        """Let time pass, with a transaction every so many seconds; all of one pattern, or none alike."""
        count = int(minutes * 60 / every)
        start = self.now
        self.land([self.made(start + timedelta(seconds=every * n), fee_rate, pattern) for n in range(count)])
        self.tick(start + minutes * MINUTE)

    def made(self, seen_at: datetime, fee_rate: int, pattern: Fingerprint | None) -> Transaction:
        self.landed += 1
        first = pattern or Fingerprint(1, 1, "p2wpkh", 10_000 + self.landed)
        outputs = [CreatedOutput(None, first.value, first.type, n) for n in range(first.outputs)]
        return transaction(
            txid=f"{self.landed:064x}",
            seen_at=seen_at,
            vsize=100,
            fee_sat=100 * fee_rate,
            outputs=outputs,
            input_count=first.inputs,
            output_count=first.outputs,
        )

    def land(self, transactions: list[Transaction]) -> None:
        land_transactions(self.connection, transactions)

    def tick(self, now: datetime) -> None:
        begun, self.now = window_start(self.now), now
        renew_lease(self.connection, self.epoch, now, now)
        note_sources(self.connection, [FollowedSource(SOURCE, T0, now, now, True, "connected", 1.0, 83)])
        if window_start(now) > begun:
            publish_network_baseline(self.connection, begun, window_start(now))

    def block(self) -> None:
        self.height += 1
        found = WireBlock(hash=f"{self.height:064x}", height=self.height, time=int(self.now.timestamp()), n_tx=1)
        land_blocks(self.connection, [found], self.now)

    def look(self) -> list[str]:
        """What is raised and what is over, as the health sensor does it."""
        raised = read_raised(self.connection)
        found = read_network(self.connection, raised, self.now)
        conditions = network_conditions(found, raised) if found else []
        new = insert_alerts(self.connection, condition_alerts(conditions, raised, self.now), ["1"])
        ends = condition_ends(conditions, raised, self.now)
        insert_updates(self.connection, ends)
        self.keys += new
        return [*(name_of(key) for key in new), *(f"{name_of(end.alert_key)} over" for end in ends)]

    def message(self) -> str:
        """The message about the last alert, as it is after the last edit."""
        [alert] = read_alerts(self.connection, self.keys[-1:])
        updates = self.connection.execute("SELECT text FROM alert_updates WHERE alert_key = %s", [alert.alert_key])
        return to_html(alert_lines(alert, None, alert.created_at, [text for (text,) in updates]))


def name_of(key: str) -> str:
    assert key.startswith("network:")
    assert not is_of_transaction(key)
    return key.split(":")[1]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """Two ordinary hours have passed, with a block at the end."""
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        world = World(connection, take_lease(connection, "run 1", T0, None))
        world.live(120)
        world.block()
        world.live(1)
        yield world


def test_an_ordinary_hour_is_no_news(world: World) -> None:
    for _ in range(6):
        world.live(10)
        world.block()
        assert world.look() == []


def test_a_burst_is_one_alert_that_is_edited_when_it_ends(world: World) -> None:
    world.live(11, every=0.8)
    assert world.look() == ["arrival_burst"]
    assert "• 1.2 transactions a second arrive, 3.7 times the usual 0.3" in world.message()
    for _ in range(3):
        world.live(5, every=1.0)
        world.block()
        assert world.look() == [], "it lasts, though what is usual by now is more"
    world.live(11)
    assert world.look() == ["arrival_burst over"]
    text = world.message()
    assert "<b>✅ over after 36 min: 0.3 a second arrive</b>\n• 1.2 transactions" in text
    assert world.look() == []


def test_a_jump_of_the_fee_rate_is_one_alert_until_it_is_back(world: World) -> None:
    world.live(11, fee_rate=45)
    assert world.look() == ["fee_rate_jump"]
    assert "• half of the transactions pay 45.0 sat/vB or more, 4.5 times the usual 9.9" in world.message()
    world.live(11, fee_rate=20)
    assert world.look() == []
    world.live(11, fee_rate=14)
    assert world.look() == ["fee_rate_jump over"]


def test_no_block_for_an_hour_is_told_until_the_next_one(world: World) -> None:
    world.live(58.9)
    assert world.look() == []
    world.live(0.2)
    assert world.look() == ["no_block"]
    assert "• no block for 60 min, since block 840,001 at 14:00 UTC" in world.message()
    world.live(14)
    assert world.look() == []
    world.block()
    assert world.look() == ["no_block over"]
    assert "✅ over after 74 min: block 840,002 came, 74 min after the one before" in world.message()


def test_no_block_is_not_told_where_one_may_have_been_missed(world: World) -> None:
    gap = FeedGap(world.now, world.now + MINUTE, "closed", "connected")
    record_gaps(world.connection, [gap])
    world.live(75)
    assert world.look() == []
    world.connection.execute("UPDATE feed_gaps SET state = 'recovered'")
    assert world.look() == ["no_block"], "the blocks of that minute are known by now"


def test_a_flood_of_one_pattern_is_told_by_its_pattern_and_ends_when_it_is_rare(world: World) -> None:
    world.live(11, every=1.5, pattern=FAN_OUT)
    world.live(1)
    assert world.look() == ["pattern_flood"]
    assert world.keys[0].startswith("network:pattern_flood:1-12-p2wpkh-10000:")
    assert "transactions of one pattern in 10 min, 95% of all" in world.message()
    assert "as many as before: 1 in, 12 out, 10,000 sat to p2wpkh first" in world.message()
    world.live(30, every=1.5, pattern=FAN_OUT)
    assert world.look() == []
    world.live(10)
    assert world.look() == ["pattern_flood over"]
    assert "✅ over after 50 min: 0 of the pattern in 10 min" in world.message()


def test_a_pattern_that_was_there_before_is_no_flood(world: World) -> None:
    for _ in range(8):
        world.live(10, every=1.5, pattern=INSCRIPTION)
        world.block()
    world.connection.execute("DELETE FROM alerts")
    world.live(10, every=1.0, pattern=INSCRIPTION)
    assert world.look() == []


def test_what_comes_at_once_after_an_outage_is_no_burst(world: World) -> None:
    record_gaps(world.connection, [FeedGap(world.now, world.now + 4 * MINUTE, "closed", "connected")])
    world.tick(world.now + 4 * MINUTE)
    world.live(2, every=0.1)
    world.live(9)
    assert world.look() == []
    world.live(5)
    assert world.look() == []


def test_a_source_that_was_followed_long_ago_says_nothing_of_what_another_one_did_not_hear(world: World) -> None:
    world.connection.execute("UPDATE feed_sources SET source = 'node', noted_at = %s", [world.now - 30 * MINUTE])
    world.connection.execute(
        "INSERT INTO feed_sources SELECT 'new', %s, heard_at, %s, true, '', 1, 83 FROM feed_sources",
        [world.now - MINUTE / 2, world.now],
    )
    found = read_network(world.connection, {}, world.now)
    assert found is not None
    assert (found.arrivals, found.block) == (NOTHING, None)


def test_nothing_is_said_while_nobody_follows_the_feed_or_it_is_not_known_what_is_usual(world: World) -> None:
    world.live(11, every=0.8)
    world.connection.execute("DELETE FROM network_baseline")
    assert world.look() == []
    assert read_network(world.connection, {}, world.now + MINUTE) is None


def last(kind: str, begun_before: timedelta) -> dict[str, LastAlert]:
    return {kind: LastAlert(f"network:{kind}:x", T0 - begun_before, T0 - begun_before, standing=True)}


def test_what_lasts_for_a_day_is_usual_by_then() -> None:
    found = Network(T0, Measured(30.0, 6.0), NOTHING, {})
    [burst] = [c for c in network_conditions(found, last("arrival_burst", LASTS_AT_MOST)) if c.kind == "arrival_burst"]
    assert burst.state is State.wrong
    over = network_conditions(found, last("arrival_burst", LASTS_AT_MOST + MINUTE))[0]
    assert (over.state, over.text) == (State.well, "it is usual by now. 30.0 a second arrive")


def ordinary(**changes: object) -> Network:
    found = {"at": T0, "arrivals": Measured(6.0, 5.5), "fee_rate": Measured(16.0, 14.8), "patterns": {}}
    return Network(**(found | {"block": (840_000, T0 - 9 * MINUTE)} | changes))  # type: ignore[arg-type]


def flood(count: float, usual: float | None, arrivals: float = 6.0) -> Network:
    return ordinary(arrivals=Measured(arrivals, 5.5), patterns={FAN_OUT: Measured(count, usual)})


HARD_NEGATIVES = {
    "arrival_burst": [
        *(ordinary(arrivals=Measured(now, 5.5)) for now in (0.0, 0.4, 2.0, 5.5, 7.0, 8.0, 9.9, 11.0, 12.0, 13.0, 13.7)),
        *(ordinary(arrivals=Measured(0.25 * usual * 9.9, usual)) for usual in (0.01, 0.3, 1.0, 3.0, 7.9, 100.0)),
        *(ordinary(arrivals=measured) for measured in (NOTHING, Measured(90.0, None), Measured(None, 5.5))),
    ],
    "fee_rate_jump": [
        *(ordinary(fee_rate=Measured(now, 14.8)) for now in (0.0, 1.0, 5.0, 14.8, 20.0, 25.0, 30.0, 40.0, 44.0, 44.3)),
        *(ordinary(fee_rate=Measured(now, 1.0)) for now in (1.1, 2.0, 3.0, 4.0, 5.0, 5.9)),
        ordinary(fee_rate=Measured(6.4, 1.5)),
        *(ordinary(fee_rate=measured) for measured in (NOTHING, Measured(90.0, None), Measured(None, 14.8))),
    ],
    "no_block": [
        *(ordinary(block=(840_000, T0 - minutes * MINUTE)) for minutes in (0, 0.1, 1, 5, 10, 15, 20, 25, 30, 35, 40)),
        *(ordinary(block=(840_000, T0 - minutes * MINUTE)) for minutes in (45, 50, 55, 57, 58, 59, 59.5, 59.9)),
        ordinary(block=None),
    ],
    "pattern_flood": [
        *(flood(count, 10.0) for count in (0, 100, 299, 500, 700, 719)),  # 719 of 3,600 are less than a fifth
        *(flood(count, count / 4.9) for count in (720, 1_000, 2_000, 3_000, 3_600)),
        *(flood(1_500, usual) for usual in (310.0, 500.0, 1_000.0, 1_500.0)),
        flood(1_500, None),
        flood(1_500, 10.0, arrivals=0.0),
        flood(5_000, 20.0, arrivals=60.0),
        ordinary(),
        ordinary(patterns={FAN_OUT: NOTHING}),
    ],
}


@pytest.mark.parametrize("kind", HARD_NEGATIVES)
def test_twenty_hard_negatives_of_each_kind_raise_nothing(kind: str) -> None:
    assert len(HARD_NEGATIVES[kind]) == 20
    for found in HARD_NEGATIVES[kind]:
        assert [c for c in network_conditions(found, {}) if c.kind == kind and c.state is State.wrong] == []
