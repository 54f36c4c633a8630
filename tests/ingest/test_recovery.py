"""Recovery from blocks: an hour of the engine with three outages, chain splits, and an API that refuses."""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import httpx
import pytest
from msgspec import structs

from tests.builders import pay, spend, transaction, utx
from tests.databases import empty_tables
from tests.ingest.following import landed, query
from txwatch.clock import WINDOW, window_range, window_start
from txwatch.ingest.batch import Batch, RecentTxids
from txwatch.ingest.lander import commit
from txwatch.ingest.recovery import GIVEN_UP_AFTER, count_mined, land_block, read_chain
from txwatch.ingest.rest import ATTEMPTS, BlockSource, RestError, blocks_needed, rest_client
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import RestApi
from txwatch.lab.simulator.traffic import Simulator
from txwatch.queries.status import read_status
from txwatch.sources.blockchain_info import NAME, Received, told
from txwatch.store.blocks import LONGEST_SPLIT, mark_stale_branches
from txwatch.store.database import Connection, connect
from txwatch.store.gaps import FeedGap, Gap, record_gaps, unrecovered_gaps
from txwatch.store.lease import take_lease
from txwatch.store.transactions import land_blocks
from txwatch.wire.blocks import ListedBlock, MinedBlock, decode_block, mined
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import Transaction

T0 = datetime(2024, 3, 14, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
OUTAGES = [(10 * MINUTE, 14 * MINUTE), (25 * MINUTE, 26 * MINUTE), (40 * MINUTE, 47 * MINUTE)]


@dataclass
class World:
    """A network that is simulated, a feed of it with outages, and its REST API; the clock is the test's."""

    now: datetime = T0
    chain: Chain = field(default_factory=lambda: Chain(seed=7, start=T0, mean_seconds=150))
    sent: dict[str, Transaction] = field(default_factory=dict)
    mined: dict[str, str] = field(default_factory=dict)

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def source(self, api: RestApi | None = None) -> BlockSource:
        rest = api or RestApi(self.chain, self.clock, interval_seconds=8)

        def answer(request: httpx.Request) -> httpx.Response:
            response = rest.answer(request.url.raw_path.decode())
            return httpx.Response(response.status_code, content=response.body)

        return served_by(answer, self)


def served_by(answer: Callable[[httpx.Request], httpx.Response], world: World) -> BlockSource:
    client = rest_client("http://api", transport=httpx.MockTransport(answer))
    return BlockSource(client, sleep=world.sleep, monotonic=lambda: world.now.timestamp())


def simulate(world: World, database_url: str) -> list[FeedGap]:
    """Seventy-five minutes of traffic and blocks, landed but for the outages, which become gaps as a worker's do."""
    simulator = Simulator("2024-03", seed=3, start=T0, rate=2)
    recent = RecentTxids()
    batch, gaps = Batch(T0, T0), []
    heard_until: datetime | None = None
    silent_since: datetime | None = None

    def hear(at: datetime, body: bytes) -> None:
        nonlocal heard_until, silent_since
        if any(start <= at - T0 < end for start, end in OUTAGES):
            silent_since = silent_since or heard_until
            return
        if silent_since is not None:
            gap = FeedGap(silent_since, at, "connection closed", "heard again after reconnecting")
            gaps.append(gap)
            batch.gaps.append(gap)
            silent_since = None
        heard_until = at
        batch.add(told(Received(at, body)), NAME, recent)

    with connect(database_url) as connection:
        epoch = take_lease(connection, "test", T0, None)
        for simulated in simulator.until(T0 + 75 * MINUTE):
            while world.chain.due(simulated.at):
                block = world.chain.mine(world.chain.next_block_at)
                world.mined |= dict.fromkeys(block.txids, block.hash)
                hear(datetime.fromtimestamp(block.time, UTC), block.announcement())
            world.now = simulated.at
            body = restamped(simulated.message, simulated.at)
            tx = world.chain.served(body, simulated.at)
            assert tx is not None
            world.sent[tx.txid] = tx
            hear(simulated.at, body)
            if simulated.at - batch.seen_from > 2 * MINUTE:
                batch.seen_through = simulated.at
                commit(connection, batch, epoch=epoch, now=simulated.at)
                batch = Batch(simulated.at, simulated.at)
        batch.seen_through = world.now
        commit(connection, batch, epoch=epoch, now=world.now)
    return gaps


def windows_between(gap: FeedGap) -> list[datetime]:
    assert gap.ended_at is not None
    return window_range(window_start(gap.started_at), window_start(gap.ended_at) + WINDOW)


def restamped(message: bytes, at: datetime) -> bytes:
    parts = json.loads(message)
    parts["x"]["time"] = int(at.timestamp())
    return json.dumps(parts).encode()


def test_an_hour_with_three_outages_is_completed_from_blocks(fresh: str) -> None:
    world = World()
    gaps = simulate(world, fresh)
    assert len(gaps) == len(OUTAGES)
    before = landed(fresh)
    assert set(world.mined) - set(before), "the outages must have cost something"

    with connect(fresh) as connection:
        done = read_chain(connection, world.source(), world.clock)
        assert (done.gaps_closed, done.gaps_waiting) == (3, 0)
        again = read_chain(connection, world.source(), world.clock)
        assert (again.blocks, again.landed) == ([], 0)

    rows = landed(fresh)
    assert set(world.mined) <= set(rows), "all that was mined is there"
    assert done.landed == len(rows) - len(before)
    for txid, row in rows.items():
        expected = structs.replace(world.sent[txid], seen_at=row.seen_at, source=row.source)
        assert row == expected
    placed = query(
        fresh,
        "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM feed_gaps WHERE seen_at BETWEEN started_at AND"
        " ended_at AND abs(extract(epoch FROM seen_at - feed_time)) < 2)) FROM transactions WHERE source = 'block'",
    )
    assert placed == [(done.landed, done.landed)], "each is in its gap, and when the service saw it"
    assert query(fresh, "SELECT state, sum(recovered)::int FROM feed_gaps GROUP BY 1") == [("recovered", done.landed)]

    confirmed = query(
        fresh, "SELECT txid, block_hash FROM confirmations JOIN blocks ON hash = block_hash AND NOT stale"
    )
    assert dict(confirmed) == world.mined
    noted = query(fresh, "SELECT DISTINCT window_start FROM late_windows WHERE reason <> 'landed late'")
    assert {start for (start,) in noted} == {window for gap in gaps for window in windows_between(gap)}
    with connect(fresh) as connection:
        status = read_status(connection, world.now)
        before = connection.execute(
            "SELECT bool_and(seen_before_count = mined_count) FROM blocks WHERE block_time < %s", [gaps[0].started_at]
        ).fetchone()
    assert (status.gaps, status.unrecovered_gap_seconds) == (3, 0)
    assert status.completeness is not None
    assert 0.7 < status.completeness < 1
    assert before == (True,)


def test_a_gap_waits_for_six_blocks_after_its_end() -> None:
    gap = Gap(1, T0, T0 + MINUTE)
    listed = [ListedBlock(f"{n:064x}", 100 + n, int((T0 + n * 5 * MINUTE).timestamp())) for n in range(-3, 7)]
    complete = blocks_needed(gap, listed, set(), T0 + 60 * MINUTE)
    assert complete.complete
    assert [b.height for b in complete.blocks] == list(range(97, 107)), "those before it too: block times are skewed"
    announced = {block.hash for block in listed[:2]}
    assert [b.height for b in blocks_needed(gap, listed, announced, T0 + 60 * MINUTE).blocks] == list(range(99, 107))
    assert not blocks_needed(gap, listed[:-1], set(), T0 + 60 * MINUTE).complete
    assert not blocks_needed(gap, [], set(), T0 + 60 * MINUTE).complete


def test_blocks_that_the_service_has_lost_leave_a_gap_that_says_so(fresh: str) -> None:
    world = World()
    simulate(world, fresh)
    api = RestApi(world.chain, world.clock)
    first_gap = query(fresh, "SELECT min(started_at) FROM feed_gaps")[0][0]

    def answer(request: httpx.Request) -> httpx.Response:
        response = api.answer(request.url.raw_path.decode())
        if "rawblock" in request.url.path and json.loads(response.body).get("time", 0) < first_gap.timestamp() + 60:
            return httpx.Response(404, json={"error": "Not Found"})
        return httpx.Response(response.status_code, content=response.body)

    world.now += GIVEN_UP_AFTER
    with connect(fresh) as connection:
        read_chain(connection, served_by(answer, world), world.clock)
    states = [state for (state,) in query(fresh, "SELECT state FROM feed_gaps ORDER BY started_at")]
    assert states == ["lost", "recovered", "recovered"]


def raw_block(name: str, height: int, parent: str, *txids: int, time: datetime = T0, count: int | None = None) -> bytes:
    coinbase = {"hash": name * 64, "size": 200, "inputs": [spend(None)], "out": [pay()], "time": None}
    bodies = [coinbase] + [json.loads(utx(hash=f"{n:064x}", time=int(time.timestamp())))["x"] for n in txids]
    header = {"hash": name * 64, "prev_block": parent * 64, "height": height, "time": int(time.timestamp())}
    return json.dumps(header | {"n_tx": count or len(bodies), "main_chain": True, "tx": bodies}).encode()


def test_of_a_chain_split_the_branch_that_ends_is_stale(fresh: str) -> None:
    with connect(fresh) as connection:

        def announce(name: str, height: int, parent: str, *txids: int) -> None:
            land_blocks(connection, [WireBlock(name * 64, height, int(T0.timestamp()))], T0 + height * SECOND)
            land_block(connection, mined(decode_block(raw_block(name, height, parent, *txids))), [], [], lambda: T0)
            mark_stale_branches(connection)

        def stale() -> set[str]:
            return {row[0][0] for row in query(fresh, "SELECT hash FROM blocks WHERE stale")}

        announce("a", 100, "0")
        announce("b", 101, "a", 1, 2)
        announce("c", 101, "a", 2, 3)
        assert stale() == set(), "a tie is undecided"
        announce("d", 102, "c")
        assert stale() == {"b"}
        announce("e", 102, "b")
        announce("f", 103, "e", 3)
        assert stale() == {"c", "d"}, "the other branch has overtaken it"
    confirming = query(
        fresh,
        "SELECT ltrim(txid, '0'), left(hash, 1) FROM confirmations JOIN blocks ON hash = block_hash AND NOT stale",
    )
    assert dict(confirming) == {"1": "b", "2": "b", "3": "f"}, "the coinbase is no transaction of the feed"


def test_a_branch_that_was_never_announced_is_found_from_its_end(fresh: str) -> None:
    served = {"a": raw_block("a", 100, "0"), "b": raw_block("b", 101, "a"), "c": raw_block("c", 102, "b")}
    world = World()
    source = served_by(lambda request: httpx.Response(200, content=served[request.url.path[-1]]), world)
    with connect(fresh) as connection:
        for name, height in (("a", 100), ("c", 102)):
            land_blocks(connection, [WireBlock(name * 64, height, int(T0.timestamp()))], T0)
        done = read_chain(connection, source, world.clock)
    assert [block.height for block in done.blocks] == [100, 102, 101]


Answer = Callable[[], httpx.Response]
NAMES = "abcdef123456789"


@dataclass
class Service:
    """A service with blocks a minute apart, `ahead` of them before T0, named a, b, c, ...; height 100 is the first.

    `contents` are the transactions of blocks, `times`, `unlisted` and `missing` what is unusual of them, `faults`
    what it answers instead to a path that ends so.
    """

    world: World
    count: int
    ahead: int = 0
    contents: dict[str, tuple[int, ...]] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)
    unlisted: str = ""
    missing: str = ""
    faults: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path[-1])
        for end, fault in self.faults.items():
            if path.endswith(end):
                return fault()
        if path[-1] in self.raw and path[-1] not in self.missing and "rawblock" in path:
            return httpx.Response(200, content=self.raw[path[-1]])
        if "rawblock" in path:
            return httpx.Response(404, json={"error": "not-found-or-invalid-arg"})
        listed = [{"hash": n * 64, "height": 100 + i, "time": self._time(n)} for i, n in enumerate(self._names)]
        return httpx.Response(200, json=[block for block in listed if block["hash"][0] not in self.unlisted])  # type: ignore[index]

    @property
    def source(self) -> BlockSource:
        self.world.now = T0 + 30 * MINUTE
        return served_by(self.answer, self.world)

    @property
    def raw(self) -> dict[str, bytes]:
        return {name: self.block(name) for name in self._names}

    def block(self, name: str) -> bytes:
        place = NAMES.index(name)
        parent = NAMES[place - 1] if place else "0"
        time = datetime.fromtimestamp(self._time(name), UTC)
        return raw_block(name, 100 + place, parent, *self.contents.get(name, ()), time=time)

    @property
    def _names(self) -> str:
        return NAMES[: self.count]

    def _time(self, name: str) -> int:
        usual = T0 + (NAMES.index(name) - self.ahead) * MINUTE + 30 * SECOND
        return int(self.times.get(name, usual).timestamp())


def announce(
    connection: Connection, names: str, *, at: datetime = T0 + 20 * MINUTE, heights: int | None = None
) -> None:
    """The feed announces blocks, by default with their own heights."""
    for name in names:
        height = 100 + NAMES.index(name) if heights is None else heights
        land_blocks(connection, [WireBlock(name * 64, height, int(T0.timestamp()))], at)


def ended_gap(connection: Connection, minutes: int = 1) -> None:
    record_gaps(connection, [FeedGap(T0, T0 + minutes * MINUTE, "connection closed", "heard again")])


def gap_states(database_url: str) -> list[str]:
    return [state for (state,) in query(database_url, "SELECT state FROM feed_gaps ORDER BY started_at")]


def one_block_and_six_after(world: World, *txids: int) -> BlockSource:
    """A service whose first block holds these transactions, half a minute after T0; the others are empty."""
    return Service(world, 7, contents={"a": txids}).source


def answering(status: int, **options: Any) -> Answer:
    return partial(httpx.Response, status, **options)


WRONG_ANSWERS = {
    "cut": answering(200, content=raw_block("b", 101, "a", 1)[:-9]),
    "a page": answering(200, html="<!DOCTYPE html><html>Please log in</html>"),
    "a page with 404": answering(404, html="<html>no such page</html>"),
    "a page with 404 and a BOM": answering(404, content=b"\xef\xbb\xbf<html>"),
    "nothing with 404": answering(404),
    "text with 404": answering(404, text="default backend - 404"),
    "no refusal with 404": answering(404, json=["error"]),
    "forbidden": answering(403),
    "broken": answering(500),
    "moved for ever": answering(302, headers={"Location": f"http://api/rawblock/{'b' * 64}"}),
    "broken gzip": partial(
        httpx.Response, 200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")
    ),
    "another block": answering(200, content=raw_block("c", 102, "b")),
    "less than it says": answering(200, content=raw_block("b", 101, "a", 1, count=3_001)),
    "one transaction twice": answering(200, content=raw_block("b", 101, "a", 1, 1)),
    "null": answering(200, content=b"null"),
    "nothing": answering(200),
    "deep": answering(200, content=b"[" * 1_000_000),
    "no UTF-8": answering(200, content=b'{"hash":"\xff"}'),
    "a height too large": answering(200, content=raw_block("b", 2**40, "a", 1)),
    "a time too large": partial(
        httpx.Response, 200, content=raw_block("b", 101, "a").replace(b'"time": 1', b'"time": 99999999')
    ),
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_block_that_cannot_be_read_holds_up_no_other_and_its_gap_waits(fresh: str, answer: Answer) -> None:
    service = Service(World(), 7, contents={"a": (1,), "b": (2,)}, faults={"b" * 64: answer})
    with connect(fresh) as connection:
        ended_gap(connection)
        announce(connection, "b8")
        service.faults["8" * 64] = answering(200, content=raw_block("8", 114, "7"))
        done = read_chain(connection, service.source, service.world.clock)
        assert {block.hash[0] for block in done.blocks} == set("acdef18")
        assert (done.landed, done.gaps_closed, done.gaps_waiting) == (1, 0, 1)
        assert [failure[:8] for failure in done.failures] == ["block bb"]
        del service.faults["b" * 64]
        done = read_chain(connection, service.source, service.world.clock)
    assert (done.landed, done.gaps_closed, done.failures) == (1, 1, [])
    assert gap_states(fresh) == ["recovered"]


def test_a_listing_that_cannot_be_read_holds_up_no_announced_block(fresh: str) -> None:
    page = answering(200, html="<!DOCTYPE html>")
    service = Service(World(), 7, faults={f"/blocks/{int(T0.timestamp()) * 1000}": page})
    with connect(fresh) as connection:
        ended_gap(connection)
        announce(connection, "ab")
        done = read_chain(connection, service.source, service.world.clock)
    assert [block.height for block in done.blocks] == [100, 101]
    assert (done.gaps_waiting, [failure.split(":")[0] for failure in done.failures]) == (
        1,
        ["the blocks of 2024-03-14"],
    )


def test_a_service_that_answers_nothing_is_named_and_asked_once_for_each_block(fresh: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path[-1])
        return httpx.Response(500)

    world = World()
    with connect(fresh) as connection:
        announce(connection, "abc")
        with pytest.raises(RestError, match="block aaaa"):
            read_chain(connection, served_by(answer, world), world.clock)
    assert asked == ["a"] * 4 + ["b", "c"]


def test_blocks_of_a_gap_whose_times_are_before_it_are_searched(fresh: str) -> None:
    """Miners' clocks run behind: by the chain they are of the gap all the same."""
    early = {"c": T0 - 30 * MINUTE, "d": T0 - 20 * MINUTE}
    for announced in ("", "ab"):
        with connect(fresh) as connection:
            empty_tables(connection, "blocks, feed_gaps, transactions, confirmations")
            service = Service(World(), 12, ahead=2, contents={"c": (1,), "d": (2,), "e": (3,)}, times=early)
            announce(connection, announced, at=T0 - MINUTE)
            ended_gap(connection, minutes=4)
            done = read_chain(connection, service.source, service.world.clock)
        assert (done.landed, done.gaps_closed) == (3, 1)
        assert "b" in {block.hash[0] for block in done.blocks}, "announced, and not read yet"


def test_blocks_after_a_gap_are_not_told_by_one_clock_that_runs_ahead(fresh: str) -> None:
    ahead = dict.fromkeys("bcd", T0 + 90 * MINUTE)
    service = Service(World(), 8, contents={"1": (7,)}, times=ahead)
    with connect(fresh) as connection:
        ended_gap(connection, minutes=4)
        done = read_chain(connection, service.source, service.world.clock)
        assert done.gaps_waiting == 0
        assert "1" in {block.hash[0] for block in done.blocks}, "six blocks after it, by most of their clocks"


@pytest.mark.parametrize("unlisted", ["b", "bcd", "abcdef"])
def test_a_block_that_the_listing_lacks_is_found_by_its_successor(fresh: str, unlisted: str) -> None:
    service = Service(World(), 12, ahead=3, contents={"d": (1,), "e": (2,), "f": (3,)}, unlisted=unlisted)
    with connect(fresh) as connection:
        announce(connection, "c", at=T0 - SECOND)
        ended_gap(connection, minutes=3)
        done = read_chain(connection, service.source, service.world.clock)
    assert (done.landed, done.gaps_closed) == (3, 1)
    assert gap_states(fresh) == ["recovered"]


def test_a_gap_with_a_block_missing_in_the_chain_is_not_recovered(fresh: str) -> None:
    service = Service(World(), 10, contents={"b": (1,)}, unlisted="b", faults={"b" * 64: answering(403)})
    with connect(fresh) as connection:
        ended_gap(connection, minutes=2)
        assert read_chain(connection, service.source, service.world.clock).gaps_waiting == 1
        del service.faults["b" * 64]
        service.missing = "b"
        assert read_chain(connection, service.source, service.world.clock).gaps_waiting == 1
        source, service.world.now = service.source, T0 + GIVEN_UP_AFTER + 2 * MINUTE
        assert read_chain(connection, source, service.world.clock).gaps_closed == 1
    assert gap_states(fresh) == ["lost"]


@pytest.mark.parametrize("status", [404, 500])
@pytest.mark.parametrize("place", ["d", "b", "last"])
def test_a_listed_block_that_is_not_of_the_chain_does_not_hold_up_a_gap(fresh: str, status: int, place: str) -> None:
    """One that lost a split stays in the listing, and the service may never give it."""
    service = Service(World(), 12, ahead=2, contents={"c": (1,), "d": (2,)})
    listed = json.loads(service.answer(httpx.Request("GET", "http://api/blocks/0")).content)
    with connect(fresh) as connection:
        ended_gap(connection, minutes=2)
        if place == "last":
            needed = [ListedBlock(block["hash"], block["height"], block["time"]) for block in listed]
            gap = unrecovered_gaps(connection)[0]
            place = blocks_needed(gap, needed, set(), T0 + 30 * MINUTE).blocks[-1].hash[0]
        beside = NAMES.index(place)
        listed.insert(beside, listed[beside] | {"hash": "9" * 64})
        service.faults["9" * 64] = answering(status, json={"error": "gone"})
        service.faults[f"/blocks/{int(T0.timestamp()) * 1000}"] = answering(200, json=listed)
        done = read_chain(connection, service.source, service.world.clock)
    assert (done.landed, done.gaps_closed) == (2, 1)
    assert gap_states(fresh) == ["recovered"]


def test_an_announced_block_that_is_not_there_yet_is_asked_for_again(fresh: str) -> None:
    """A machine of the service that lags behind says 404 too."""
    service = Service(World(), 3, missing="b")
    with connect(fresh) as connection:
        announce(connection, "abc")
        for hours, missing, read in ((1, "b", "ac"), (2, "b", ""), (3, "", "b")):
            source, service.world.now, service.missing = service.source, T0 + hours * 60 * MINUTE, missing
            done = read_chain(connection, source, service.world.clock)
            assert ([block.hash[0] for block in done.blocks], done.failures) == (list(read), [])


def test_a_block_that_is_still_not_there_after_hours_is_given_up(fresh: str) -> None:
    service = Service(World(), 3, missing="b")
    with connect(fresh) as connection:
        announce(connection, "abc")
        source, service.world.now = service.source, T0 + 20 * MINUTE + GIVEN_UP_AFTER
        for _ in range(2):
            read_chain(connection, source, service.world.clock)
    assert service.asked == list("abc")


def test_blocks_of_a_long_gap_are_read_in_parts_and_after_announced_ones(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("txwatch.ingest.recovery.GAPS_FOR", 25 * SECOND)
    service = Service(World(), 11, missing="b")
    service.faults = {name * 64: answering(200, content=raw_block(name, 150, "a")) for name in "6789"}
    read = []
    with connect(fresh) as connection:
        ended_gap(connection, minutes=5)
        for name in "8976":
            announce(connection, name)
            done = read_chain(connection, service.source, service.world.clock)
            read.append("".join(block.hash[0] for block in done.blocks))
            service.missing = ""
    assert read == ["8ac", "9bde", "7f12", "6345"]
    assert gap_states(fresh) == ["recovered"]


def test_announced_blocks_do_not_wait_for_the_listings_of_a_long_gap(fresh: str) -> None:
    """Those of a year take an hour. What is announced meanwhile is read before the next one."""
    service = Service(World(), 12, missing="d")
    heard_again = 6

    def answer(request: httpx.Request) -> httpx.Response:
        if len(service.asked) == heard_again + 2:
            with connect(fresh) as other:
                announce(other, "e")
        return service.answer(request)

    with connect(fresh) as connection:
        record_gaps(connection, [FeedGap(T0 - timedelta(days=30), T0 + MINUTE, "closed", "heard again")])
        announce(connection, "cd")
        assert service.source
        read_chain(connection, served_by(answer, service.world), service.world.clock)
    assert service.asked[:heard_again] == ["0"] * heard_again
    assert "".join(service.asked[heard_again:][:5]) == "cd0e0"
    assert service.asked.count("d") == 1


def test_a_chain_that_is_followed_down_to_a_gaps_start_is_read_in_parts(
    fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap that names its last block may have four weeks of them, at ten seconds each."""
    monkeypatch.setattr("txwatch.ingest.recovery.GAPS_FOR", 25 * SECOND)
    service, read = Service(World(), 11, ahead=2), []
    with connect(fresh) as connection:
        announce(connection, "b", at=T0 - SECOND)
        ended = FeedGap(T0, T0 + 8 * MINUTE, "connection closed", "mempool asked for", tip="2" * 64)
        record_gaps(connection, [ended])
        source = service.source
        for _ in range(3):
            done = read_chain(connection, source, service.world.clock)
            read.append("".join(block.hash[0] for block in done.blocks))
    assert read == ["2b1fed", "c", ""]
    assert gap_states(fresh) == ["recovered"]


def test_blocks_of_a_gap_that_always_fail_hold_up_no_others(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take all the time of each reading, were each to begin with them."""
    monkeypatch.setattr("txwatch.ingest.recovery.GAPS_FOR", 3 * MINUTE)
    random.seed(1)
    service = Service(World(), 14, faults={name * 64: answering(500) for name in "abcdef"})
    read = set[str]()
    with connect(fresh) as connection:
        ended_gap(connection, minutes=8)
        for _ in range(30):
            source = service.source
            with suppress(RestError):
                read |= {block.hash[0] for block in read_chain(connection, source, service.world.clock).blocks}
    assert read == set("12345678")


def test_blocks_that_name_each_other_as_predecessors_end(fresh: str) -> None:
    service = Service(World(), 8)
    loop = {name: raw_block(name, 100 + NAMES.index(name), after) for name, after in (("b", "c"), ("c", "c"))}
    service.faults |= {name * 64: answering(200, content=body) for name, body in loop.items()}
    with connect(fresh) as connection:
        ended_gap(connection)
        done = read_chain(connection, service.source, service.world.clock)
    assert done.gaps_waiting == 1


@pytest.mark.parametrize("height", [0, 2_000_000_000, 2**31 - 1])
def test_an_announcement_of_any_height_does_not_end_the_marking_of_stale_blocks(fresh: str, height: int) -> None:
    service = Service(World(), 4)
    with connect(fresh) as connection:
        announce(connection, "9", heights=height)
        announce(connection, "abcd")
        read_chain(connection, service.source, service.world.clock)
        for name, parent in (("5", "b"), ("6", "5"), ("7", "6")):
            announce(connection, name)
            body = raw_block(name, 102 + "567".index(name), parent)
            service.faults[name * 64] = answering(200, content=body)
        read_chain(connection, service.source, service.world.clock)
    assert {block_hash[0] for (block_hash,) in query(fresh, "SELECT hash FROM blocks WHERE stale")} == {"c", "d"}
    assert query(fresh, "SELECT height FROM blocks WHERE left(hash, 1) = '7'") == [(104,)], "as the block itself says"


def test_an_old_block_that_is_announced_again_leads_no_reading_down_the_chain(fresh: str) -> None:
    service = Service(World(), 4)
    service.faults["9" * 64] = partial(
        httpx.Response, 200, content=raw_block("9", 3, "8", time=T0 - timedelta(days=5_000))
    )
    with connect(fresh) as connection:
        announce(connection, "9", heights=104)
        announce(connection, "d")
        done = read_chain(connection, service.source, service.world.clock)
    assert [block.height for block in done.blocks] == [103, 3]


@pytest.mark.parametrize(("falls_by", "read"), [(0, 1), (2, 1), (1, LONGEST_SPLIT)], ids=["level", "two", "for ever"])
def test_a_branch_is_followed_as_far_as_its_heights_fall_by_one(fresh: str, falls_by: int, read: int) -> None:
    """Whatever a service makes up, each block costs a request, and these are few."""
    top = 900_000

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path[-64:]
        depth = int(name[:8])
        if depth > 2 * LONGEST_SPLIT:
            return httpx.Response(404, json={"error": "enough"})
        before = f"{depth + 1:08}" + "b" * 56
        header = {"hash": name, "prev_block": before, "height": top - depth * falls_by, "time": int(T0.timestamp())}
        return httpx.Response(200, json=header | {"n_tx": 0, "tx": []})

    world = World()
    with connect(fresh) as connection:
        for height in range(top - 400, top, 100):
            known = MinedBlock(f"{height:08}" + "a" * 56, "c" * 64, height, int(T0.timestamp()), 0, [], {})
            land_block(connection, known, [], [], world.clock)
        land_blocks(connection, [WireBlock("0" * 8 + "b" * 56, top, int(T0.timestamp()))], T0)
        done = read_chain(connection, served_by(answer, world), world.clock)
    assert len(done.blocks) == 1 + read


@pytest.mark.parametrize("known", [False, True])
def test_a_block_that_was_read_before_its_gap_had_ended_is_searched_for_it(fresh: str, known: bool) -> None:
    world = World()
    source = one_block_and_six_after(world, 1, 2)
    with connect(fresh) as connection:
        if known:
            record_gaps(connection, [FeedGap(T0, None, "connection closed")])
        land_blocks(connection, [WireBlock("a" * 64, 100, int(T0.timestamp()))], world.now)
        assert read_chain(connection, source, world.clock).landed == 0
        record_gaps(connection, [FeedGap(T0, T0 + MINUTE, "connection closed", "heard again")])
        done = read_chain(connection, source, world.clock)
    assert (done.landed, done.gaps_closed) == (2, 1)
    assert query(fresh, "SELECT count(*) FROM gap_blocks") == [(0,)]


def test_a_gap_that_ends_while_a_block_is_read_has_the_block_searched_again(fresh: str) -> None:
    """As when a reading began while the feed was away, and its worker came back before the reading was done."""
    world = World()
    source = one_block_and_six_after(world, 1, 2)
    with connect(fresh) as connection:
        record_gaps(connection, [FeedGap(T0, None, "connection closed")])
        gaps_before = unrecovered_gaps(connection)
        record_gaps(connection, [FeedGap(T0, T0 + MINUTE, "connection closed", "heard again")])
        block = source.block("a" * 64)
        assert block is not None
        land_block(connection, block, [], gaps_before, world.clock)
        done = read_chain(connection, source, world.clock)
    assert (done.landed, done.gaps_closed) == (2, 1)


@pytest.mark.parametrize(("after", "mined"), [(-SECOND, 0), (0 * SECOND, 0), (SECOND, 1)])
def test_an_unknown_transaction_counts_from_the_second_after_the_feed_is_followed(after: timedelta, mined: int) -> None:
    assert count_mined([transaction(seen_at=T0 + after)], {}, T0, T0 + MINUTE) == (mined, 0)


def test_the_api_is_asked_at_its_own_pace_and_again_after_429() -> None:
    world = World()
    asked: list[datetime] = []
    answers = [
        httpx.Response(429, headers={"Retry-After": "45"}),
        httpx.Response(429),
        httpx.Response(200, content=b'{"blocks":[]}'),
        httpx.Response(200, content=b"[]"),
    ]

    def answer(_request: httpx.Request) -> httpx.Response:
        asked.append(world.now)
        if len(asked) == 2:
            raise httpx.ConnectError("refused")
        return answers.pop(0)

    source = served_by(answer, world)
    assert source.blocks_of(date(2024, 3, 14)) == []
    assert source.blocks_of(date(2024, 3, 14)) == []
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(asked)]
    assert 45 <= waits[0] < 60, "as the server asked"
    assert all(wait >= 10 for wait in waits)
    assert waits[1] < waits[2], "longer each time"
    assert waits[-1] == 10


def test_after_a_failure_a_request_is_tried_once_until_the_service_answers_again() -> None:
    statuses: list[int] = []
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(statuses[-1], content=b"[]")

    source = served_by(answer, World())
    for status, tries in ((500, ATTEMPTS), (500, 1), (200, 1), (500, ATTEMPTS)):
        statuses.append(status)
        asked.clear()
        with suppress(RestError):
            source.blocks_of(date(2024, 3, 14))
        assert len(asked) == tries


def test_an_error_does_not_tell_the_password_of_the_address() -> None:
    client = rest_client("http://user:hidden@api", transport=httpx.MockTransport(lambda _: httpx.Response(403)))
    with pytest.raises(RestError, match=r"^http://api/rawblock/") as raised:
        BlockSource(client).block("a" * 64)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("status", [400, 403, 500])
def test_an_api_that_keeps_refusing_is_named_in_the_error(status: int) -> None:
    source = served_by(lambda _request: httpx.Response(status), World())
    with pytest.raises(RestError, match=f"http://api/rawblock/{'a' * 64}: status {status}"):
        source.block("a" * 64)
