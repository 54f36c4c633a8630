"""The local feed as a process that writes down what it sends: `python -m tests.soak.recorded_feed`.

Besides transactions it sends some of them a second time, and messages that are none. SIGUSR1 calms it: blocks then come
at a steady pace. SIGUSR2 ends its traffic: what waits is mined, and nothing more is sent.
"""

import argparse
import asyncio
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
from msgspec import structs

from txwatch.clock import utc_now
from txwatch.lab.simulator.chain import Block, Chain, Served, read_transaction
from txwatch.lab.simulator.feed import LocalFeed, Played, Playlist
from txwatch.lab.simulator.mempool_space import transaction_answer
from txwatch.store.transactions import copy_row
from txwatch.wire.mempool_space import decode_transaction
from txwatch.wire.transaction import Transaction

REPEATED, MALFORMED = 1 / 200, 1 / 500
"""Shares of the messages."""
CALM_SECONDS = 15.0
"""Between blocks, for the recovery of what was missed needs six of them."""


class SentMessage(msgspec.Struct, frozen=True, tag="sent"):
    """One message to whoever listens. A malformed one has a body and no txid; times UTC."""

    at: datetime
    txid: str | None
    rows: tuple[int, ...] = ()
    """Fingerprints of the rows that the transaction may become, as each protocol tells it."""
    labels: tuple[str, ...] = ()
    body: str = ""
    replaces: str | None = None


class MinedBlock(msgspec.Struct, frozen=True, tag="mined"):
    """One block and what it holds."""

    at: datetime
    height: int
    txids: tuple[str, ...]


class TrafficOver(msgspec.Struct, frozen=True, tag="over"):
    """The last line: everything was sent, and everything that can be mined is."""

    at: datetime


Line = SentMessage | MinedBlock | TrafficOver
Pace = Literal["wild", "calm", "over"]
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def fingerprint(tx: Transaction) -> int:
    """Of everything that a row holds but when and how it came. 64 bits."""
    text = copy_row(structs.replace(tx, seen_at=_LONG_AGO, source="feed"))
    return int.from_bytes(sha256(text.encode()).digest()[:8])


def as_mempool_space_tells(tx: Transaction, played: Played) -> Transaction:
    """The same transaction by the other protocol, which also tells the coins' makers."""
    body = bytes(msgspec.json.decode(played.message, type=dict[str, msgspec.Raw])["x"])
    served = Served(0.0, 0, tx.txid, tx.weight, body, played.at, tuple(played.makers), played.replaces)
    return decode_transaction(transaction_answer(served), played.at)


class Record:
    """The file that says what was sent. A line is written before its message leaves."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encode = msgspec.json.Encoder().encode

    def write(self, line: Line) -> None:
        self._file.write(self._encode(line) + b"\n")


class RecordedPlaylist(Playlist):
    """Plays simulated traffic and writes down each message of it."""

    def __init__(self, record: Record, *, rate: float, seed: int) -> None:
        super().__init__(capture=None, rate=rate, regime="2024-03", seed=seed)
        self._record = record
        self._random = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self._malformed = 0
        self.pace: Pace = "wild"

    def until(self, now: datetime) -> Iterator[Played]:
        """See `Playlist.until`."""
        if self.pace == "over":
            return
        for played in super().until(now):
            transaction = read_transaction(played.message, played.at)
            if transaction is None:
                raise ValueError("the simulator made a message that is no transaction")
            rows = fingerprint(transaction), fingerprint(as_mempool_space_tells(transaction, played))
            line = SentMessage(utc_now(), transaction.txid, rows, played.labels, replaces=played.replaces)
            self._record.write(line)
            yield played
            if self._random.random() < REPEATED:
                self._record.write(structs.replace(line, labels=()))
                yield played._replace(labels=())
            if self._random.random() < MALFORMED:
                yield self._malformed_message(played.at)

    def _malformed_message(self, at: datetime) -> Played:
        self._malformed += 1
        body = f'{{"op":"utx","x":{{"hash":"no txid","number":{self._malformed},"padding":"{"x" * 300}"}}}}'
        self._record.write(SentMessage(utc_now(), None, body=body))
        return Played(at, body.encode(), ())


class RecordedChain(Chain):
    """Mines what was sent, and writes down each block."""

    def __init__(self, record: Record, playlist: RecordedPlaylist, *, seed: int, mean_seconds: float) -> None:
        super().__init__(seed=seed, start=utc_now(), mean_seconds=mean_seconds, kept_blocks=60)
        self._record = record
        self._playlist = playlist
        self._is_over = False

    def hurry(self) -> None:
        """Let the next block come soon, whatever was planned."""
        self.next_block_at = min(self.next_block_at, utc_now() + timedelta(seconds=CALM_SECONDS))

    def due(self, now: datetime) -> bool:
        """See `Chain.due`."""
        if self._playlist.pace == "over" and self.waiting == 0:
            if not self._is_over:
                self._record.write(TrafficOver(now))
            self._is_over = True
            return False
        return super().due(now)

    def mine(self, at: datetime) -> Block:
        """See `Chain.mine`."""
        block = super().mine(at)
        self._record.write(MinedBlock(at, block.height, block.txids))
        if self._playlist.pace != "wild":
            self.next_block_at = at + timedelta(seconds=CALM_SECONDS)
        return block


def read_record(path: Path) -> list[Line]:
    """What a feed has written down so far."""
    decoder = msgspec.json.Decoder(Line)
    lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or half written
    return [decoder.decode(line) for line in lines]


async def serve(port: int, record_path: Path, rate: float, seed: int, mean_seconds: float) -> None:
    """Run the feed until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with record_path.open("ab", buffering=0) as file:
        record = Record(file)
        playlist = RecordedPlaylist(record, rate=rate, seed=seed)
        chain = RecordedChain(record, playlist, seed=seed, mean_seconds=mean_seconds)

        def go(pace: Pace) -> None:
            playlist.pace = pace
            chain.hurry()

        loop.add_signal_handler(signal.SIGTERM, ended.set)
        loop.add_signal_handler(signal.SIGUSR1, go, "calm")
        loop.add_signal_handler(signal.SIGUSR2, go, "over")
        async with LocalFeed(playlist=playlist, chain=chain, port=port) as feed:
            playing = asyncio.create_task(feed.play_on())
            await asyncio.wait({playing, asyncio.create_task(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--block-seconds", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.record, given.rate, given.seed, given.block_seconds))
