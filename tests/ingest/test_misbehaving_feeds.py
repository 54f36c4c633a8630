"""The worker on feeds that misbehave: whatever they do, what they sent is what is landed, and the rest is a gap."""

import asyncio
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.builders import numbered_utx, pay, spend, utx
from tests.ingest.feed_server import Stage, scripted_feed
from tests.ingest.following import following, has_landed, landed, query, sent, until, utxs
from tests.waiting import PATIENCE_SECONDS
from txwatch.ingest import worker as ingest_worker
from txwatch.sources import source as feed_connection
from txwatch.store.database import connect

SILENCE_SECONDS = 2.0
"""Long against the pauses of a machine that does other things too."""
CLOSE_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4999]


pytestmark = pytest.mark.anyio


async def test_every_way_of_closing_is_survived_and_is_a_gap(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_connection, "STABLE_SECONDS", 0.0)
    messages = utxs(0, 3 * (len(CLOSE_CODES) + 2))

    def closing(i: int, code: int | None) -> object:
        async def act(stage: Stage) -> None:
            await stage.send(*messages[3 * i : 3 * i + 3])
            if code is None:
                await (await stage.websocket.ping())  # answered: all that was sent has arrived
                stage.abort()
            else:
                await stage.close(code)

        return act

    async def last(stage: Stage) -> None:
        await stage.send(*messages[-3:])
        await stage.stay()

    acts = [closing(i, code) for i, code in enumerate([*CLOSE_CODES, None])]
    async with scripted_feed(*acts, last) as feed, following(fresh, feed.url, tmp_path):
        await until(has_landed(fresh, len(messages)))
    assert landed(fresh) == sent(messages)
    gaps = query(fresh, "SELECT cause, state, ended_at > started_at FROM feed_gaps ORDER BY started_at")
    assert [(state, real) for _, state, real in gaps] == [("ended", True)] * (len(CLOSE_CODES) + 1)
    for code, (cause, _, _) in zip(CLOSE_CODES, gaps, strict=False):
        assert str(code) in cause
    assert all({"unconfirmed_sub", "blocks_sub"} <= set(" ".join(said).split('"')) for said in feed.heard)


async def test_a_feed_that_falls_silent_is_left_and_the_gap_begins_with_its_last_message(
    fresh: str, tmp_path: Path
) -> None:
    async def silent(stage: Stage) -> None:
        await stage.send(*utxs(0, 5))
        await stage.stay()

    async def alive(stage: Stage) -> None:
        await stage.send(*utxs(5, 10))
        await stage.stay()

    async with (
        scripted_feed(silent, alive) as feed,
        following(fresh, feed.url, tmp_path, silence_seconds=SILENCE_SECONDS),
    ):
        await until(has_landed(fresh, 10))
    [(cause, started_at, ended_at)] = query(fresh, "SELECT cause, started_at, ended_at FROM feed_gaps LIMIT 1")
    moments = [at for (at,) in query(fresh, "SELECT seen_at FROM transactions ORDER BY txid")]
    assert cause.startswith("no transaction for")
    assert (started_at, ended_at) == (moments[4], moments[5])
    assert sum("ping" in said for said in feed.heard[0]) >= 2, "one to see that it was heard, more when it was idle"


HTTP = "HTTP/1.1 {} \r\nContent-Length: 0\r\n{}\r\n"
HANDSHAKES = {
    "an address of the web": HTTP.format(302, "Location: https://login.example/\r\n"),
    "no address": HTTP.format(301, "Location: ://\r\n"),
    "for ever": HTTP.format(307, "Location: /inv\r\n"),
    "a server error": HTTP.format(500, ""),
    "no permission": HTTP.format(403, ""),
    "no upgrade": HTTP.format(200, ""),
    "no HTTP": "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": "",
}


@pytest.mark.parametrize("handshake", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_handshake_that_fails_is_tried_again(fresh: str, tmp_path: Path, handshake: str) -> None:
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(handshake.encode())
        writer.close()
        refused.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with following(fresh, f"ws://127.0.0.1:{port}/inv", tmp_path) as running:
        await refused.wait()
        server.close()
        async with scripted_feed(_five_and_stay, port=port):
            await until(has_landed(fresh, 5))
        assert not running.task.done()


async def test_a_redirect_is_followed_and_not_kept(fresh: str, tmp_path: Path) -> None:
    async with scripted_feed(_five_and_close) as elsewhere:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HTTP.format(302, f"Location: {elsewhere.url}\r\n").encode())
            writer.close()

        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with following(fresh, f"ws://127.0.0.1:{port}/inv", tmp_path):
            await until(has_landed(fresh, 5))
            server.close()
            async with scripted_feed(_ten_and_stay, port=port):
                await until(has_landed(fresh, 10))


async def _five_and_stay(stage: Stage) -> None:
    await stage.send(*utxs(0, 5))
    await stage.stay()


async def _five_and_close(stage: Stage) -> None:
    await stage.send(*utxs(0, 5))
    await stage.close(1000)


async def _ten_and_stay(stage: Stage) -> None:
    await stage.send(*utxs(0, 10))
    await stage.stay()


async def test_an_answer_to_a_ping_is_no_sign_of_life(fresh: str, tmp_path: Path) -> None:
    async def deaf(stage: Stage) -> None:
        while True:
            await stage.send('{"op":"pong"}')
            await asyncio.sleep(0.02)

    async def alive(stage: Stage) -> None:
        await stage.send(*utxs(0, 1))
        await stage.stay()

    async with (
        scripted_feed(deaf, alive) as feed,
        following(fresh, feed.url, tmp_path, silence_seconds=SILENCE_SECONDS),
    ):
        await until(has_landed(fresh, 1))
    assert query(fresh, "SELECT ignored > 5 FROM ingest_lease") == [(True,)]


async def test_garbage_duplicates_and_disorder_cost_nothing_else(fresh: str, tmp_path: Path) -> None:
    large = numbered_utx(
        999,
        inputs=[spend(script="00" * 90) for _ in range(11_000)],
        out=[pay()],
        vin_sz=11_000,
        vout_sz=1,
        size=1_600_000,
    )
    good = utxs(0, 200)
    assert len(large) > 4_000_000
    garbage = [
        b"",
        b"{",
        b"[1,2]",
        b"null",
        b'{"op":"utx"}',
        b'{"op":"utx","x":' + b"[" * 100_000,
        utx(hash="no hash"),
        utx(size=10),
        utx(inputs=[], vin_sz=0),
        utx(out=[pay(-1)]),
        utx(out=[pay(2**80)]),
    ]
    bad_bytes = b'{"op":"utx","x":"\xff\xfe"}'

    async def act(stage: Stage) -> None:
        for i, message in enumerate(good):
            await stage.send(message)
            if i < len(garbage):
                await stage.send(garbage[i])
        await stage.websocket.send(bad_bytes)  # as a binary frame
        await stage.send('{"op":"something new","x":1}', '{"op":"status","msg":"hello"}', large)
        await stage.send(*reversed(good), *good[::3])
        await stage.stay()

    async with scripted_feed(act) as feed, following(fresh, feed.url, tmp_path):
        await until(lambda: query(fresh, "SELECT duplicates FROM ingest_lease") == [(len(good) + len(good[::3]),)])
    assert landed(fresh) == sent([*good, large])
    quarantined = query(fresh, "SELECT body FROM quarantined_messages ORDER BY received_at")
    assert [body for (body,) in quarantined] == [bad[:65_536] for bad in [*garbage, bad_bytes]]
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(0,)]
    assert feed.connections == 1


async def test_a_database_that_hangs_blocks_no_pong_and_loses_nothing(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_worker, "PENDING_COUNT", 1_000)
    monkeypatch.setattr(ingest_worker, "BATCH_COUNT", 500)
    monkeypatch.setattr(ingest_worker, "PATIENCE_SECONDS", 0.2)
    messages = utxs(0, 6_000)
    locked = asyncio.Event()
    answered = asyncio.Event()

    async def act(stage: Stage) -> None:
        await stage.send(messages[0])
        await locked.wait()
        await stage.send(*messages[1:])
        await (await stage.websocket.ping())
        answered.set()
        await stage.stay()

    async with scripted_feed(act) as feed, following(fresh, feed.url, tmp_path):
        await until(has_landed(fresh, 1))
        with connect(fresh) as connection, connection.transaction():
            connection.execute("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE")
            locked.set()
            await asyncio.wait_for(answered.wait(), PATIENCE_SECONDS)
            await until(lambda: any(tmp_path.rglob("*.batch")))
        await until(has_landed(fresh, len(messages)))
    assert landed(fresh) == sent(messages)
    assert query(fresh, "SELECT count(*) FROM feed_gaps") == [(0,)]
    assert not any(tmp_path.iterdir()), "a spool that is empty leaves nothing"


async def test_rows_that_the_database_refuses_are_quarantined_alone(fresh: str, tmp_path: Path) -> None:
    messages = utxs(0, 300)
    with connect(fresh) as connection:
        connection.execute("ALTER TABLE transactions ADD CHECK (value_sat NOT IN (1077, 1203))")

    async def act(stage: Stage) -> None:
        await stage.send(*messages)
        await stage.stay()

    async with scripted_feed(act) as feed, following(fresh, feed.url, tmp_path):
        await until(has_landed(fresh, 298))
    refused = query(fresh, "SELECT reason, body FROM quarantined_messages ORDER BY received_at")
    assert landed(fresh) == sent(m for n, m in enumerate(messages) if n not in {77, 203})
    assert ["violates check constraint" in reason for reason, _ in refused] == [True, True]
    assert f"{77:064x}".encode() in refused[0][1]


async def test_what_fails_beside_the_landing_does_not_hold_it_up(fresh: str, tmp_path: Path) -> None:
    told: list[int] = []

    class Failing:
        def write(self, connection: psycopg.Connection, new: list) -> None:
            told.append(len(new))
            connection.execute("SELECT 1 / 0")

        def follow_up(self, _connection: psycopg.Connection, _batch: object) -> None:
            pass

        def committed(self) -> None:
            pass

    async def act(stage: Stage) -> None:
        await stage.send(*utxs(0, 20), *utxs(0, 20))
        await stage.stay()

    async with scripted_feed(act) as feed, following(fresh, feed.url, tmp_path, hook=Failing()):
        await until(has_landed(fresh, 20))
    assert told
    assert landed(fresh) == sent(utxs(0, 20))


async def test_hostile_words_of_a_closing_server_and_impossible_blocks_hold_nothing_up(
    fresh: str, tmp_path: Path
) -> None:
    block = b'{"op":"block","x":{"hash":"%064d","height":%d,"time":1710374400,"nTx":%d}}'

    async def rude(stage: Stage) -> None:
        await stage.send(*utxs(0, 5), block % (1, 2**31, 0), block % (2, 834_000, 2**63), block % (3, 834_000, 9))
        await stage.websocket.close(1011, "go\0away")

    async def last(stage: Stage) -> None:
        await stage.send(*utxs(5, 10))
        await stage.stay()

    async with scripted_feed(rude, last) as feed, following(fresh, feed.url, tmp_path):
        await until(has_landed(fresh, 10))
    assert "go away" in query(fresh, "SELECT cause FROM feed_gaps")[0][0]
    assert query(fresh, "SELECT height, tx_count FROM blocks") == [(834_000, 9)]
    assert query(fresh, "SELECT count(*) FROM quarantined_messages") == [(2,)]


async def test_a_batch_that_cannot_be_landed_is_set_aside_and_is_a_gap(fresh: str, tmp_path: Path) -> None:
    with connect(fresh) as connection:
        connection.execute("ALTER TABLE blocks ADD CHECK (height <> 13)")
    landed_first = asyncio.Event()

    async def act(stage: Stage) -> None:
        await stage.send(b'{"op":"block","x":{"hash":"%064d","height":13,"time":1710374400}}' % 1, *utxs(0, 5))
        await landed_first.wait()
        await stage.send(*utxs(5, 10))
        await stage.stay()

    async with scripted_feed(act) as feed, following(fresh, feed.url, tmp_path):
        await until(lambda: bool(list(tmp_path.rglob("*.unreadable"))))
        landed_first.set()
        await until(has_landed(fresh, 5))
    assert landed(fresh) == sent(utxs(5, 10))
    assert "set aside" in query(fresh, "SELECT cause FROM feed_gaps")[0][0]


async def test_a_shift_ends_by_itself_after_some_overtime(fresh: str, tmp_path: Path) -> None:
    async def act(stage: Stage) -> None:
        await stage.send(*utxs(0, 5))
        await stage.stay()

    async with (
        scripted_feed(act) as feed,
        following(fresh, feed.url, tmp_path, duration=timedelta(seconds=0.6)) as running,
    ):
        shift = await asyncio.wait_for(running.task, PATIENCE_SECONDS)
    assert (shift.landed, shift.reason, shift.epoch) == (len(landed(fresh)), "shift over", 1)
    assert query(fresh, "SELECT released_at > expires_at FROM ingest_lease") == [(True,)]
