"""The local feed over real sockets: subscriptions, REST, slow clients, and its end."""

import asyncio
import json
import socket
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import CloseCode

from tests.builders import T0, labelled, numbered_utx, spend, utx
from tests.feeds import SetClock
from tests.waiting import PATIENCE_SECONDS
from txwatch.captures import CaptureError
from txwatch.clock import utc_now
from txwatch.lab.simulator import feed as feed_module
from txwatch.lab.simulator.chain import Chain, read_transaction
from txwatch.lab.simulator.feed import LOOPBACK, LocalFeed, Played, Playlist
from txwatch.sources.blockchain_info import BlockchainInfo, Received
from txwatch.sources.chosen import ChosenSources
from txwatch.sources.source import follow, reconnect_delays
from txwatch.sources.websocket import MAX_MESSAGE_BYTES

pytestmark = pytest.mark.anyio


class WatchedPlaylist(Playlist):
    """Tells when it begins: before that, moving the clock would move the beginning."""

    def __init__(self, capture: Path | None = None, rate: float | None = None) -> None:
        super().__init__(capture=capture, rate=rate, regime="2024-03", seed=1)
        self._beginning = asyncio.Event()

    def begin(self, at: datetime) -> None:
        super().begin(at)
        self._beginning.set()

    async def beginning(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._beginning.wait()


def expected(seconds: float) -> list[Played]:
    """What a feed without capture plays in its first seconds."""
    same = WatchedPlaylist()
    same.begin(T0)
    return list(same.until(T0 + timedelta(seconds=seconds)))


def a_feed(clock: SetClock, played: WatchedPlaylist | None = None, **options: Any) -> LocalFeed:
    mean_seconds = options.pop("mean_seconds", 600.0)
    chain = Chain(seed=1, start=T0, mean_seconds=mean_seconds)
    return LocalFeed(playlist=played or WatchedPlaylist(), chain=chain, clock=clock, **options)


def a_client(feed: LocalFeed) -> connect:
    """A client that always reads, whatever the test waits for."""
    return connect(feed.stream_url, max_size=MAX_MESSAGE_BYTES, max_queue=None)


def a_slow_client(feed: LocalFeed) -> connect:
    """A client that reads only what the test receives, and for which the system keeps little."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    reader.connect((LOOPBACK, urlsplit(feed.stream_url).port))
    return connect(feed.stream_url, sock=reader, max_size=MAX_MESSAGE_BYTES, max_queue=1)


async def ask(client: ClientConnection, **operation: object) -> None:
    """Send an operation and wait until the server has obeyed it, which its answer to a ping shows."""
    await client.send(json.dumps(operation))
    await client.send('{"op":"ping"}')
    assert await receive(client) == b'{"op":"pong"}'


async def receive(client: ClientConnection) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await client.recv(decode=False)


async def receive_many(client: ClientConnection, n: int) -> list[bytes]:
    return [await receive(client) for _ in range(n)]


async def test_a_subscriber_gets_what_is_played_from_its_subscription_on() -> None:
    clock, played = SetClock(), WatchedPlaylist()
    async with a_feed(clock, played) as feed, a_client(feed) as client:
        await ask(client, op="unconfirmed_sub")
        await played.beginning()
        clock.forward(20)
        sent = [tx.message for tx in expected(20)]
        assert await receive_many(client, len(sent)) == sent
        await ask(client, op="unconfirmed_unsub")
        clock.forward(20)
        await client.send('{"op":"ping"}')
        assert await receive(client) == b'{"op":"pong"}'


async def test_nothing_is_played_until_somebody_asks_for_transactions() -> None:
    clock, played = SetClock(), WatchedPlaylist()
    async with a_feed(clock, played) as feed, a_client(feed) as client:
        await ask(client, op="blocks_sub")
        clock.forward(86_400)
        assert json.loads(await receive(client))["op"] == "block"
        assert list(played.until(clock())) == [], "nothing is played to who asked for no transactions"


async def test_blocks_are_announced_to_their_subscribers_and_hold_what_was_served() -> None:
    clock, played = SetClock(), WatchedPlaylist()
    async with a_feed(clock, played, mean_seconds=60.0) as feed, a_client(feed) as client:
        await ask(client, op="unconfirmed_sub")
        await ask(client, op="blocks_sub")
        await played.beginning()
        clock.forward(600)
        served: list[str] = []
        while (message := json.loads(await receive(client)))["op"] == "utx":
            served.append(message["x"]["hash"])
        announced = message["x"]
        async with httpx.AsyncClient(base_url=feed.rest_url, timeout=PATIENCE_SECONDS) as rest:
            block = (await rest.get(f"/rawblock/{announced['hash']}")).json()
            day = (await rest.get(f"/blocks/{int(T0.timestamp() * 1000)}", params={"format": "json"})).json()
            transaction = (await rest.get(f"/rawtx/{served[0]}")).json()
            assert (await rest.get("/rawblock/ff")).status_code == 404
    assert sorted(tx["hash"] for tx in block["tx"]) == sorted(served)
    assert (announced["nTx"], announced["height"]) == (len(served), block["height"])
    assert {"hash": block["hash"], "height": block["height"]}.items() <= day[-1].items()
    assert transaction["hash"] == served[0]


async def test_it_tells_the_price_as_both_services_do() -> None:
    clock = SetClock()
    async with a_feed(clock) as feed, httpx.AsyncClient(base_url=feed.rest_url, timeout=PATIENCE_SECONDS) as rest:
        names = ("blockchain.info", "mempool.space")
        sources = ChosenSources(names, "", mempool_space_url=feed.rest_url, rest_url=feed.rest_url)
        answers = [(one, await rest.get(f"{one.url}{one.path}")) for one in sources.price_services]
        ticker, prices = (one.decode(answer.content, clock()) for one, answer in answers)
        # Not by this service's own words alone: it moves, as a price does.
        clock.forward(6 * 3_600)
        later = sources.price_services[0].decode((await rest.get("/ticker")).content, clock())
    assert (ticker.source, prices.source) == names
    assert int(ticker.usd) == prices.usd
    assert ticker.usd != later.usd


async def test_the_same_seed_gives_the_same_stream_however_the_clock_ticks() -> None:
    async def stream(ticks: int) -> list[bytes]:
        clock, played = SetClock(), WatchedPlaylist()
        async with a_feed(clock, played, mean_seconds=30.0) as feed, a_client(feed) as client:
            await ask(client, op="unconfirmed_sub")
            await ask(client, op="blocks_sub")
            await played.beginning()
            messages = []
            for _ in range(ticks):
                clock.forward(120 / ticks)
                messages.append(await receive(client))
            return messages + await receive_many(client, 500 - ticks)

    once, often = await stream(1), await stream(40)
    assert once == often
    assert any(message.startswith(b'{"op":"block"') for message in once)


async def test_an_address_subscriber_gets_the_transactions_that_touch_it() -> None:
    clock, played = SetClock(), WatchedPlaylist()
    traffic = expected(300)
    addresses = [tx.inputs[0].addr for p in traffic[-50:] if (tx := read_transaction(p.message, p.at)) is not None]
    async with a_feed(clock, played) as feed, a_client(feed) as client:
        await ask(client, op="addr_sub", addr=addresses[0])
        await ask(client, op="addr_sub", addr=addresses[-1])
        await ask(client, op="addr_sub", addr=addresses[-2])
        await ask(client, op="addr_unsub", addr=addresses[-2])
        await played.beginning()
        clock.forward(300)
        wanted = [p.message for p in traffic if touches(p, {addresses[0], addresses[-1]})]
        assert len(wanted) >= 2
        assert await receive_many(client, len(wanted)) == wanted


def touches(played: Played, addresses: set[str | None]) -> bool:
    tx = read_transaction(played.message, played.at)
    return tx is not None and bool(addresses & ({i.addr for i in tx.inputs} | {o.addr for o in tx.outputs}))


@pytest.mark.parametrize(
    "operation",
    [
        "",
        "{",
        "[1]",
        "7",
        "null",
        '{"op":1}',
        '{"op":"xyz"}',
        '{"op":"addr_sub"}',
        '{"op":"addr_sub","addr":3}',
        b"\xff",
    ],
)
async def test_what_is_no_operation_is_answered_and_the_connection_kept(operation: str | bytes) -> None:
    async with a_feed(SetClock()) as feed, a_client(feed) as client:
        await client.send(operation)
        answer = json.loads(await receive(client))
        assert answer["op"] == "status"
        assert answer["msg"]
        await ask(client, op="unconfirmed_sub")


def large_utx(n: int) -> bytes:
    """The largest message of the real feed: 20,000 inputs, 3.9 MB."""
    script = "16" + "00" * 22
    inputs = [spend(script="") if i % 2 else spend(script=script) for i in range(20_000)]
    message = numbered_utx(n, inputs=inputs, vin_sz=20_000, size=2_000_000)
    assert 3_700_000 < len(message) < 4_500_000
    return message


@pytest.fixture(scope="module")
def large_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captures") / "large.jsonl"
    path.write_bytes(b"\n".join(large_utx(n) for n in range(1, 9)))
    return path


async def test_a_large_message_reaches_the_programs_own_client(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    capture.write_bytes(large_utx(1))
    feed = LocalFeed(playlist=WatchedPlaylist(capture), chain=Chain(seed=1, start=utc_now()))
    async with feed:
        source = BlockchainInfo(feed.stream_url, utc_now)
        async with aclosing(follow(source, reconnect_delays, source.messages)) as events:
            async for event in events:
                # The first thing heard is the answer to its ping.
                if isinstance(event, Received) and (transaction := read_transaction(event.body, event.seen_at)):
                    break
    assert transaction is not None
    assert (transaction.txid, transaction.input_count) == (f"{1:064x}", 20_000)


async def test_a_slow_client_is_closed_and_holds_up_nobody(
    large_capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "CLOSE_SECONDS", PATIENCE_SECONDS)  # on a busy machine, slow is slower still
    clock, played = SetClock(), WatchedPlaylist(large_capture, rate=1.0)
    async with (
        a_feed(clock, played, max_unsent_bytes=1_000_000) as feed,
        a_client(feed) as healthy,
        a_slow_client(feed) as slow,
    ):
        await ask(healthy, op="unconfirmed_sub")
        await ask(slow, op="unconfirmed_sub")
        await played.beginning()
        for n in range(1, 9):
            clock.forward(1.0)
            assert json.loads(await receive(healthy))["x"]["hash"] == f"{n:064x}"
        with pytest.raises(ConnectionClosedError, match=r"1008.*client reads too slowly"):
            await receive_many(slow, 8)
        await ask(healthy, op="unconfirmed_sub")


async def test_the_truth_file_names_what_was_planted(tmp_path: Path) -> None:
    clock, played, truth = SetClock(), WatchedPlaylist(), tmp_path / "truth.jsonl"
    truth.write_text('{"txid":"of an earlier run"}\n')
    async with a_feed(clock, played, truth=truth) as feed, a_client(feed) as client:
        await ask(client, op="unconfirmed_sub")
        await played.beginning()
        clock.forward(120)
        await receive_many(client, len(expected(120)))
    lines = [json.loads(line) for line in truth.read_text().splitlines()][1:]
    assert lines == [
        {"txid": json.loads(p.message)["x"]["hash"], "labels": list(p.labels), "at": p.at.isoformat()}
        for p in expected(120)
        if p.labels
    ]
    assert {"plant:fee_accident", "plant:whale"} <= {label for line in lines for label in line["labels"]}


async def test_labels_of_a_capture_are_in_the_truth_file_and_not_in_the_stream(tmp_path: Path) -> None:
    capture, truth = tmp_path / "capture.jsonl", tmp_path / "truth.jsonl"
    capture.write_bytes(labelled(utx(), "coinjoin:test") + b"\n" + labelled(utx(size=3), "broken"))
    clock, played = SetClock(), WatchedPlaylist(capture, rate=1.0)
    async with a_feed(clock, played, truth=truth) as feed, a_client(feed) as client:
        await ask(client, op="unconfirmed_sub")
        await played.beginning()
        clock.forward(1.5)
        assert b"meta" not in await receive(client)
        assert b"meta" not in await receive(client)
    assert [json.loads(line)["labels"] for line in truth.read_text().splitlines()] == [["coinjoin:test"]]


async def test_a_bad_line_of_the_capture_ends_the_feed_with_its_name(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    capture.write_bytes(utx() + b"\n{nonsense\n")
    clock, played = SetClock(), WatchedPlaylist(capture, rate=1.0)
    with pytest.raises(CaptureError, match=r"capture\.jsonl, line 2"):
        await play_to_the_end(a_feed(clock, played), played, clock)


async def play_to_the_end(feed: LocalFeed, played: WatchedPlaylist, clock: SetClock) -> None:
    async with feed, a_client(feed) as client:
        await ask(client, op="unconfirmed_sub")
        await played.beginning()
        clock.forward(1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await feed.play_on()


async def test_clients_are_told_that_the_feed_goes_away_and_its_port_is_free_again() -> None:
    async with a_feed(SetClock()) as feed:
        port = int(feed.rest_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="address already in use"):
            await a_feed(SetClock(), port=port).__aenter__()
        client = await a_client(feed)
    await client.wait_closed()
    assert client.close_code == CloseCode.GOING_AWAY
    async with a_feed(SetClock(), port=port) as again:
        assert again.rest_url == feed.rest_url


async def test_a_client_follows_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txwatch.lab.simulator.subscribers.MAX_ADDRESSES", 1)
    async with a_feed(SetClock()) as feed, a_client(feed) as client:
        await ask(client, op="addr_sub", addr="a")
        await client.send('{"op":"addr_sub","addr":"b"}')
        assert json.loads(await receive(client))["msg"] == "no more than 1 addresses"
        await ask(client, op="addr_unsub", addr="a")
        await ask(client, op="addr_sub", addr="b")
