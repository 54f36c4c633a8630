"""Feeds the decoders generated messages, a million by default: `make fuzz`.

A third are valid and must come back exactly. The others are mutations of valid ones and random bytes: each must be
understood or refused with a reason, and what is understood must be fit for the database.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from txwatch.ingest.batch import Batch
from txwatch.store.transactions import copy_row
from txwatch.wire.mempool_space import (
    Input,
    Output,
    TransactionAnswer,
    decode_block,
    decode_changes,
    decode_hash,
    decode_message,
    decode_transaction,
    decode_txids,
)
from txwatch.wire.messages import (
    MAX_SUPPLY_SAT,
    MalformedMessageError,
    UnconfirmedTransaction,
    WireInput,
    WireOutput,
    WirePrevout,
    WireTransaction,
    decode,
)
from txwatch.wire.transaction import Transaction, base_size, from_wire

NOW = datetime(2024, 3, 14, 12, tzinfo=UTC)
COLUMNS = 18
NUMBERS = [
    b"-1",
    b"0",
    b"1e400",
    b"1.5",
    b"-0",
    b"9007199254740993",
    b"18446744073709551616",
    b"9" * 400,
    b"null",
    b"true",
]
PIECES = [b"[" * 2_000, b'{"a":' * 2_000, b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xed\xa0\x80", b"\0", b'"', b"}", b"]"]
ADDRESS = "bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm"


class DecoderError(AssertionError):
    """The decoder did something else than to understand or to refuse."""


class Fuzzer:
    """Makes inputs, and judges what the decoder makes of them. The same seed gives the same inputs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable
        self._pool: list[bytes] = []
        self.outcomes: Counter[str] = Counter()

    def one(self) -> None:
        """Make one input and judge it. Raises DecoderError."""
        kind = self._random.random()
        if kind < 0.33 or len(self._pool) < 50:
            self._valid()
        elif kind < 0.9:
            self._any(self._mutated())
        else:
            self._any(self._random.randbytes(self._random.randrange(200)))

    def _valid(self) -> None:
        wire = self._transaction()
        body = msgspec.json.encode(UnconfirmedTransaction(wire))
        if len(self._pool) < 500:
            self._pool.append(body)
        else:
            self._pool[self._random.randrange(500)] = body
        message = decode(body)
        if not isinstance(message, UnconfirmedTransaction) or message.x != wire:
            raise DecoderError(f"did not come back as it was: {body!r}")
        tx = from_wire(message.x, NOW)
        if tx.fee_sat is not None and tx.fee_sat != sum(i.prev_out.value for i in wire.inputs if i.prev_out) - sum(
            o.value for o in wire.out
        ):
            raise DecoderError(f"another fee: {body!r}")
        batch = Batch(NOW, NOW, [tx])
        if msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=Batch) != batch:
            raise DecoderError(f"does not survive the spool: {body!r}")
        fit(body)
        self.outcomes["valid, came back exactly"] += 1

    def _any(self, body: bytes) -> None:
        self.outcomes[fit(body)] += 1

    def _transaction(self) -> WireTransaction:
        rng = self._random
        inputs = [
            WireInput(
                rng.randbytes(rng.choice((0, 0, 23, 107, 300))).hex(),
                rng.choice((0xFFFFFFFF, 0xFFFFFFFD, 0)),
                WirePrevout(
                    rng.randrange(10**10), rng.randbytes(rng.randrange(40)).hex(), rng.randrange(9), self._addr()
                )
                if rng.random() < 0.97
                else None,
            )
            for _ in range(rng.choice((1, 1, 1, 2, 3, 8)))
        ]
        left = sum(i.prev_out.value for i in inputs if i.prev_out)
        if any(i.prev_out is None for i in inputs):
            left = MAX_SUPPLY_SAT
        out = []
        for _ in range(rng.choice((1, 2, 2, 3, 9))):
            value = rng.randint(0, left)
            left -= value
            out.append(WireOutput(value, rng.randbytes(rng.randrange(40)).hex(), len(out), self._addr()))
        wire = WireTransaction(
            rng.randbytes(32).hex(),
            1,
            inputs,
            out,
            rng.choice((1, 2, -(2**31), 2**32 - 1)),
            rng.choice((0, 834_000, 2**32 - 1)),
            rng.choice((None, 0, 1_710_376_406)),
            rng.choice((None, len(inputs))),
            rng.choice((None, len(out))),
        )
        wire.size = base_size(wire) + rng.choice((0, 2, 107, 3_000))
        return wire

    def _addr(self) -> str | None:
        return self._random.choice((None, ADDRESS, "1" + self._random.randbytes(16).hex()))

    def _mutated(self) -> bytes:
        rng = self._random
        body = bytearray(rng.choice(self._pool))
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(len(body) + 1)
            to = min(len(body), at + rng.randrange(1, 40))
            match rng.randrange(7):
                case 0:
                    body[at:to] = b""
                case 1:
                    body[at:at] = body[at:to]
                case 2:
                    body[at:at] = rng.choice(PIECES)
                case 3:
                    body[at:to] = rng.randbytes(to - at)
                case 4:
                    colon = body.find(b":", at)
                    end = min((p for p in (body.find(b",", colon), body.find(b"}", colon)) if p > 0), default=0)
                    if 0 < colon < end:
                        body[colon + 1 : end] = rng.choice(NUMBERS)
                case 5:
                    other = rng.choice(self._pool)
                    start = rng.randrange(len(other))
                    body[at:to] = other[start : start + 60]
                case 6:
                    del body[at:]
            if not body:
                break
        return bytes(body)


class MempoolSpaceFuzzer(Fuzzer):
    """The same of the transactions that mempool.space tells."""

    def _valid(self) -> None:
        wire = self._transaction()
        rng = self._random
        fee = sum(i.prev_out.value for i in wire.inputs if i.prev_out) - sum(o.value for o in wire.out)
        weight = 3 * base_size(wire) + wire.size
        answer = TransactionAnswer(
            wire.hash,
            wire.ver,
            wire.lock_time,
            [
                Input(rng.randbytes(32).hex(), rng.randrange(2**32), i.script, i.sequence, _output(i))
                for i in wire.inputs
            ],
            [Output(o.value, o.script, o.addr) for o in wire.out],
            wire.size,
            weight,
            fee if all(i.prev_out for i in wire.inputs) else rng.randrange(10**9),
            rng.choice((None, -(-weight // 4), weight / 4)),
            wire.time,
        )
        body = msgspec.json.encode(answer)
        self._pool.append(body)
        del self._pool[:-500]
        tx = decode_transaction(body, NOW)
        told = [(i.txid, i.vout, i.prevout and i.prevout.value) for i in answer.vin]
        if [(coin.txid, coin.n, coin.value) for coin in tx.inputs] != told:
            raise DecoderError(f"other coins: {body!r}")
        if (tx.weight, tx.size) != (weight, wire.size) or tx.fee_sat not in (answer.fee, None):
            raise DecoderError(f"another fee or size: {body!r}")
        if tx.fee_sat is None and all(i.prevout for i in answer.vin):
            raise DecoderError(f"no fee: {body!r}")
        self.outcomes["valid, came back exactly"] += 1

    def _any(self, body: bytes) -> None:
        self.outcomes[fit_for_mempool_space(body)] += 1


def _output(spent: WireInput) -> Output | None:
    coin = spent.prev_out
    return coin and Output(coin.value, coin.script, coin.addr)


def fit_for_mempool_space(body: bytes) -> str:
    """The same of what mempool.space says: as a transaction, as a message, and as each answer of its REST API."""
    for decoder in (decode_message, decode_block, decode_txids, decode_hash, _all_changes):
        try:
            decoder(body)
        except MalformedMessageError as error:
            if not str(error):
                raise DecoderError(f"refused without a reason: {body!r}") from error
        except Exception as error:
            raise DecoderError(f"{type(error).__name__} on {body!r}") from error
    return _row_of(lambda: decode_transaction(body, NOW), body)


def _all_changes(body: bytes) -> None:
    list(decode_changes(body).removals())


def fit(body: bytes) -> str:
    """What becomes of a message, in a word. Raises DecoderError when it is neither understood nor refused."""

    def read() -> Transaction | str:
        message = decode(body)
        if not isinstance(message, UnconfirmedTransaction):
            return type(message).__name__
        return from_wire(message.x, NOW)

    return _row_of(read, body)


def _row_of(read: Callable[[], Transaction | str], body: bytes) -> str:
    try:
        tx = read()
        if isinstance(tx, str):
            return tx
        row = copy_row(tx).encode()
    except MalformedMessageError as error:
        if not str(error):
            raise DecoderError(f"refused without a reason: {body!r}") from error
        return "refused"
    except Exception as error:
        raise DecoderError(f"{type(error).__name__} on {body!r}") from error
    if row.count(b"\t") != COLUMNS - 1 or row.count(b"\n") != 1 or b"\0" in row:
        raise DecoderError(f"not one row of {COLUMNS} columns: {body!r}")
    return "understood"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    fuzzers = Fuzzer(options.seed), MempoolSpaceFuzzer(options.seed)
    began = time.monotonic()
    for number in range(options.count):
        try:
            fuzzers[number % 2].one()
        except DecoderError as fault:
            print(f"input {number} of seed {options.seed}: {fault}")
            return 1
    print(f"{options.count:,} inputs of seed {options.seed} in {time.monotonic() - began:.0f} s, no fault:")
    for outcome, times in (fuzzers[0].outcomes + fuzzers[1].outcomes).most_common():
        print(f"{times:>10,}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
