"""mempool.space over real sockets: what it tells, how a loss is noticed, and how what was missed comes back."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import pytest
from websockets.exceptions import InvalidURI

from tests.builders import (
    T0,
    mempool_changes,
    mempool_output,
    numbered_mempool_transaction,
)
from tests.feeds import SetClock
from tests.ingest.following import fast
from tests.sources.mempool_server import TIP, MempoolServer, mempool_server, says
from tests.waiting import PATIENCE_SECONDS
from txwatch.errors import UserError
from txwatch.sources import mempool_space, mempool_space_rest
from txwatch.sources.chosen import ChosenSources
from txwatch.sources.mempool_space import MempoolSpace, public_rate, socket_url
from txwatch.sources.source import (
    BlockFound,
    Connected,
    Disconnected,
    Health,
    Ignored,
    Malformed,
    Missed,
    Removed,
    Resynced,
    Seen,
    SourceAwayError,
    follow,
)
from txwatch.sources.websocket import MAX_MESSAGE_BYTES

pytestmark = pytest.mark.anyio

UNIX = int(T0.timestamp())
BLOCK = {"id": "0" * 63 + "7", "height": 834_637, "timestamp": UNIX, "tx_count": 3, "extras": {}}


async def heard(source: MempoolSpace, count: int) -> list[Any]:
    """The first events of following a source."""
    events: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(follow(source, fast)) as following:
        async for event in following:
            events.append(event)
            if len(events) == count:
                break
    return events


async def knows_none(_txids: Sequence[str]) -> set[str]:
    """For a database that holds nothing."""
    return set()


async def resynced(source: MempoolSpace, since: datetime = T0, known: Any = knows_none) -> list[Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [event async for event in source.resync(since, known)]


def numbers(events: list[Any]) -> list[int]:
    """The numbers of the transactions seen."""
    return sorted(int(event.transaction.txid, 16) for event in events if isinstance(event, Seen))


async def test_what_enters_leaves_and_is_replaced_is_told_and_nothing_of_what_is_mined() -> None:
    one, two, three, four = (numbered_mempool_transaction(n) for n in (1, 2, 3, 4))
    changes = mempool_changes(
        5,
        added=[one, three],
        removed=[two["txid"], four["txid"]],
        replaced=[{"replaced": two["txid"], "by": three}],
    )
    async with mempool_server(says(changes, mempool_changes(6, mined=[one["txid"]]))) as server:
        connected, *events = await heard(MempoolSpace(server.url, SetClock()), 6)
        assert json.loads(server.heard[1]) == {"track-mempool": True}
        assert json.loads(server.heard[0]) == {"action": "want", "data": ["blocks"]}
    assert connected == Connected(T0)
    assert numbers(events[:2]) == [1, 3]
    assert events[0].transaction.inputs[0].txid == "ab" * 32
    assert events[0].transaction.seen_at == T0
    assert events[0].bytes == len(json.dumps(one))
    assert events[2:4] == [Removed(two["txid"], T0, three["txid"]), Removed(four["txid"], T0)]
    assert isinstance(events[4], Ignored), "of what was mined nothing is told, and no counter had a hole"


async def test_a_block_is_told_alone_or_with_what_it_changed() -> None:
    both = json.dumps(
        {"block": BLOCK} | json.loads(mempool_changes(1, added=[numbered_mempool_transaction(1)]))
    ).encode()
    async with mempool_server(says(json.dumps({"block": BLOCK}).encode(), both)) as server:
        _, alone, again, seen = await heard(MempoolSpace(server.url, SetClock()), 4)
    assert isinstance(alone, BlockFound)
    assert alone == again
    assert (alone.block.hash, alone.block.height, alone.block.time, alone.block.n_tx) == (BLOCK["id"], 834_637, UNIX, 3)
    assert numbers([seen]) == [1]


async def test_a_malformed_part_is_quarantined_alone() -> None:
    wrong_fee = numbered_mempool_transaction(2, fee=1)
    added = [numbered_mempool_transaction(1), wrong_fee, {"txid": 3}, numbered_mempool_transaction(4)]
    messages = mempool_changes(1, added=added, removed=["zz"]), b"{", b'{"mempool-transactions":{}}', b'{"block":{}}'
    async with mempool_server(says(*messages, mempool_changes(2), b'{"conversions":{}}')) as server:
        events = (await heard(MempoolSpace(server.url, SetClock()), 11))[1:]
    assert numbers(events) == [1, 4]
    faults = [event for event in events if isinstance(event, Malformed)]
    assert [fault.reason.split(" ")[0] for fault in faults] == ["fee", "no", "'zz'", "no", "no", "no"]
    assert json.loads(faults[0].body) == wrong_fee, "and not the whole message"
    assert isinstance(events[-1], Ignored)


async def test_a_hole_in_the_sequence_is_told_with_the_moment_before_it() -> None:
    clock, later = SetClock(), asyncio.Event()

    async def skips(_server: MempoolServer, connection: Any) -> None:
        await connection.send(mempool_changes(1, added=[numbered_mempool_transaction(1)]), text=True)
        await later.wait()
        await says(b'{"pong":true}', mempool_changes(3, added=[numbered_mempool_transaction(3)]))(_server, connection)

    async with mempool_server(skips) as server:
        source, events = MempoolSpace(server.url, clock), []
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(follow(source, fast)) as following:
            async for event in following:
                events.append(event)
                if numbers([event]) == [1]:
                    clock.forward(10)
                    later.set()
                elif numbers([event]) == [3]:
                    break
    told = [event for event in events if not isinstance(event, Ignored)]
    assert told[2] == Missed(T0, "after change 1 of its mempool came 3"), "the answer to a ping is no change"
    assert numbers(told) == [1, 3]


async def test_it_reconnects_and_its_sequence_begins_anew() -> None:
    async with mempool_server(says(mempool_changes(7), stays=False), says(mempool_changes(1))) as server:
        events = await heard(MempoolSpace(server.url, SetClock()), 5)
    kinds = [Connected, Ignored, Disconnected, Connected, Ignored]
    assert [type(event) for event in events] == kinds, "and no hole"
    assert sum("track-mempool" in said for said in server.heard) == 2


async def test_a_silent_connection_is_ended_and_changes_of_nothing_are_no_silence() -> None:
    silent = asyncio.Event()

    async def pongs(_server: MempoolServer, connection: Any) -> None:
        for sequence in itertools.count():
            await asyncio.sleep(0.05)
            await connection.send(b'{"pong":true}' if silent.is_set() else mempool_changes(sequence), text=True)

    async with mempool_server(pongs) as server:
        source = MempoolSpace(server.url, SetClock(), silence_seconds=0.5)
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(follow(source, fast)) as following:
            count = 0
            async for event in following:
                count += isinstance(event, Ignored)
                if count == 30:
                    silent.set()
                if isinstance(event, Disconnected):
                    break
    assert "no transaction for" in event.cause
    assert '{"action":"ping"}' in server.heard


async def test_a_message_of_16_mb_is_read() -> None:
    script = "6a4d" + "00" * 90_000

    def large(n: int) -> dict[str, Any]:
        return numbered_mempool_transaction(
            n, vout=[mempool_output(scriptpubkey=script)], size=90_171, weight=360_369, vsize=90_093
        )

    many = [large(n) for n in range(1, 92)]
    body = mempool_changes(1, added=many)
    assert 16_000_000 < len(body) <= MAX_MESSAGE_BYTES
    async with mempool_server(says(body)) as server:
        events = await heard(MempoolSpace(server.url, SetClock()), 1 + len(many))
    assert [event.reason for event in events if isinstance(event, Malformed)] == []
    assert numbers(events) == list(range(1, 92))


async def test_a_resync_asks_for_what_is_not_known_and_tells_the_blocks_meanwhile() -> None:
    clock = SetClock(T0 + timedelta(seconds=100))
    hashes = ["0" * 63 + digit for digit in "678"]
    async with mempool_server() as server:
        old, before, during, after, gone = (
            numbered_mempool_transaction(n, firstSeen=UNIX + seconds)
            for n, seconds in ((1, 5), (2, -2), (3, 50), (4, 900), (5, 60))
        )
        unstamped = numbered_mempool_transaction(6, firstSeen=..., status={"confirmed": True}, vsize=110.25)
        wrong = numbered_mempool_transaction(7, fee=3)
        server.hold(old, before, during, after, gone, unstamped, wrong)
        del server.answers[f"/api/tx/{gone['txid']}"]
        server.answers["/api/blocks/tip/hash"] = hashes[2].encode()
        for n, (block_hash, seconds) in enumerate(zip(hashes, (-1, 30, 60), strict=True)):
            block = BLOCK | {"id": block_hash, "height": n, "timestamp": UNIX + seconds}
            server.answers[f"/api/block/{block_hash}"] = block | {"previousblockhash": hashes[n - 1]}

        async def known(txids: Sequence[str]) -> set[str]:
            return {old["txid"]} & set(txids)

        events = await resynced(MempoolSpace(server.url, clock), T0, known)
    assert server.asked_for == [2, 3, 4, 5, 6, 7]
    assert numbers(events) == [3, 4, 6]
    moments = {int(e.transaction.txid, 16): e.transaction.seen_at - T0 for e in events if isinstance(e, Seen)}
    assert moments == {3: timedelta(seconds=50), 4: timedelta(seconds=100), 6: timedelta(seconds=100)}
    assert [event.block.height for event in events if isinstance(event, BlockFound)] == [1, 2]
    assert [event.reason[:3] for event in events if isinstance(event, Malformed)] == ["fee"]
    assert events[-1] == Resynced(clock(), hashes[2], 0)


async def test_a_resync_asks_for_so_many_the_newest_and_says_how_many_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_space, "MOST_ASKED", 3)
    async with mempool_server() as server:
        server.hold(*(numbered_mempool_transaction(n, firstSeen=UNIX) for n in range(1, 9)))
        events = await resynced(MempoolSpace(server.url, SetClock()))
    assert server.asked_for == numbers(events) == [6, 7, 8]
    assert events[-1] == Resynced(T0, TIP, 5)


async def test_after_a_hole_nothing_is_asked_for_that_was_there_before() -> None:
    clock = SetClock()
    async with mempool_server() as server:
        held = [numbered_mempool_transaction(n) for n in range(1, 4)]
        server.hold(*held[:2])
        source = MempoolSpace(server.url, clock)
        await source.open()
        await source.close()
        server.hold(*held)
        soon = await resynced(source, T0 + timedelta(seconds=5))
        assert server.asked_for == [1, 2, 3], "what the server lists may not have been announced yet"
        assert numbers(soon) == []
        server.asked.clear()
        server.hold(*held, numbered_mempool_transaction(4, firstSeen=UNIX + 61))
        clock.forward(65)
        assert numbers(await resynced(source, T0 + timedelta(seconds=60))) == [4]
        assert server.asked_for == [4]


@pytest.mark.parametrize(("given", "waited"), [("7", 7.0), ("Thu, 14 Mar 2024 12:00:09 GMT", 9.0), ("soon", 0.0)])
async def test_too_many_requests_are_asked_again_after_the_time_that_is_told(
    given: str, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def hurried(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async with mempool_server() as server:
        server.hold(numbered_mempool_transaction(1, firstSeen=UNIX))
        server.refusals = [(429, {"Retry-After": given})]
        monkeypatch.setattr(mempool_space_rest.asyncio, "sleep", hurried)
        events = await resynced(MempoolSpace(server.url, SetClock()))
        monkeypatch.undo()
    assert numbers(events) == [1]
    assert server.asked[:2] == ["/api/mempool/txids"] * 2
    assert max(pauses) >= waited
    assert max(pauses) < waited + 1.0


async def test_requests_to_the_public_service_are_paced() -> None:
    assert public_rate("https://mempool.space") == 10.0
    assert public_rate("https://node201.fmt.mempool.space/") == 10.0
    assert public_rate("http://mempool.space.local:8999") is None
    async with mempool_server() as server:
        server.hold(*(numbered_mempool_transaction(n) for n in range(8)))
        loop = asyncio.get_running_loop()
        began = loop.time()
        await resynced(MempoolSpace(server.url, SetClock(), rate=20.0))
        # The list, the tip, eight transactions and a block: ten intervals.
        assert loop.time() - began >= 10 / 20.0


async def test_a_transaction_that_the_server_fails_to_give_is_left_to_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_space_rest, "ATTEMPTS", 1)
    async with mempool_server() as server:
        server.hold(*(numbered_mempool_transaction(n, firstSeen=UNIX) for n in (1, 2)))
        source = MempoolSpace(server.url, SetClock())
        server.refusals = [(200, {})]
        with pytest.raises(SourceAwayError, match="no list of txids"):
            await resynced(source)

        async def known(_txids: Sequence[str]) -> set[str]:
            server.refusals = [(500, {})]
            return set()

        events = await resynced(source, T0, known)
        assert len(numbers(events)) == 1
        assert events[-1] == Resynced(T0, TIP, 1)
        monkeypatch.setattr(mempool_space, "_REFUSALS_BORNE", 0)
        with pytest.raises(SourceAwayError, match="status 500"):
            await resynced(source, T0, known)


async def test_its_health_says_its_version_and_its_least_fee_rate() -> None:
    async with mempool_server() as server:
        server.answers["/api/mempool"] = {"count": 1_234}
        source = MempoolSpace(server.url, SetClock())
        assert await source.health() == Health("answers", 1.0)
        server.answers["/api/v1/backend-info"] = {"version": "3.2.0", "hostname": "x"}
        server.answers["/api/v1/fees/recommended"] = {"fastestFee": 3, "minimumFee": 0.5}
        assert await source.health() == Health("version 3.2.0", 0.5)
        for nonsense in (b'{"version":"\xff"}', b'{"version":"1","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
            server.answers["/api/v1/backend-info"] = nonsense
            assert await source.health() == Health("answers", 0.5)
        server.answers["/api/v1/fees/recommended"] = b'{"minimumFee":1,"a":' + b"[" * 100_000
        assert (await source.health()).min_fee_rate == 1.0
        server.answers["/api/v1/fees/recommended"] = {"minimumFee": -1}
        assert (await source.health()).min_fee_rate == 1.0
    with pytest.raises(SourceAwayError):
        await source.health()


async def test_a_server_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_space_rest, "ATTEMPTS", 1)
    source = MempoolSpace("http://127.0.0.1:9", SetClock())
    with pytest.raises(SourceAwayError):
        await source.open()
    with pytest.raises(SourceAwayError):
        await resynced(source)
    with pytest.raises(SourceAwayError, match="not connected"):
        await anext(source.events())
    await source.close()


def test_its_socket_is_beside_its_rest_api() -> None:
    assert socket_url("https://mempool.space") == "wss://mempool.space/api/v1/ws"
    assert socket_url("http://umbrel.local:3006/") == "ws://umbrel.local:3006/api/v1/ws"
    for wrong in ("mempool.space", "ftp://mempool.space", "wss://mempool.space/api/v1/ws", "https://"):
        with pytest.raises(InvalidURI):
            socket_url(wrong)


def test_it_is_followed_when_the_settings_name_it() -> None:
    chosen = ChosenSources(("blockchain.info", "mempool.space"), "ws://x/inv", mempool_space_url="http://127.0.0.1:1")
    assert [source.name for source in chosen.open(SetClock())] == ["blockchain.info", "mempool.space"]
    with pytest.raises(UserError, match="there are: blockchain"):
        ChosenSources(("mempool",), "ws://x/inv").open(SetClock())


async def test_a_block_that_the_server_does_not_have_ends_the_walk_and_not_the_resync() -> None:
    async with mempool_server() as server:
        del server.answers[f"/api/block/{TIP}"]
        assert await resynced(MempoolSpace(server.url, SetClock())) == [Resynced(T0, TIP)]
