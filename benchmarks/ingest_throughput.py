"""How many transactions a second one ingest worker makes durable, from the socket to the row.

Validation and deduplication are on. The limit is the slower of its two unavoidable parts, each alone: decoding with
validation, and COPY of rows that are formatted already, into the same table with its indexes. The baseline is the
shape of the system before: one autocommit insert for the transaction and one for each input and output.
"""

import time
from collections.abc import Iterator

from benchmarks.champion import promote_champion
from benchmarks.feed import START, messages
from benchmarks.harness import Bench, Measurement
from tests.waiting import wait_until
from txwatch.detection.registry import ModelRegistry
from txwatch.store.database import connect
from txwatch.store.transactions import copy_row
from txwatch.wire.messages import UnconfirmedTransaction, decode
from txwatch.wire.transaction import Transaction, from_wire

COUNT = 400_000
SCORED = 500_000
"""Also in a quick run: the champion is loaded in some seconds, and what came before is not counted."""
ALONE = 20_000
BASELINE = 300
BATCH = 2_000


def measure(bench: Bench) -> Iterator[Measurement]:
    bodies = messages(bench.size(ALONE))
    transactions = [parsed(body) for body in bodies]
    # The best of three: a limit that something else on the machine has lowered would flatter the ratio.
    decoding = max(decode_alone(bodies) for _ in range(3))
    copying = max(copy_alone(bench.database(), transactions) for _ in range(3))
    before = one_insert_each(bench.database(), transactions[:BASELINE])
    limit = min(decoding, copying)
    sustained = socket_to_row(bench, bench.size(COUNT))
    yield Measurement("ingest_decode_alone", decoding, "tx/s")
    yield Measurement("ingest_copy_alone", copying, "tx/s")
    yield Measurement("ingest_predecessor", before, "tx/s", why="one autocommit insert each")
    yield Measurement(
        "ingest_sustained", sustained, "tx/s", before, limit, at_least=10_000, why="one insert each; decode or COPY"
    )
    yield Measurement("ingest_of_limit", sustained / limit, "ratio", at_least=0.4, why="sustained over its limit")
    yield Measurement("ingest_over_predecessor", sustained / before, "ratio", at_least=10)
    scoring = socket_to_row(bench, SCORED, scored=True)
    yield Measurement("ingest_sustained_scoring", scoring, "tx/s", before, limit, why="the same with live scoring")


def parsed(body: bytes) -> Transaction:
    message = decode(body)
    assert isinstance(message, UnconfirmedTransaction)
    return from_wire(message.x, START)


def decode_alone(bodies: list[bytes]) -> float:
    began = time.perf_counter()
    for body in bodies:
        parsed(body)
    return len(bodies) / (time.perf_counter() - began)


def copy_alone(database_url: str, transactions: list[Transaction]) -> float:
    rows = [
        "".join(copy_row(tx) for tx in transactions[i : i + BATCH]).encode() for i in range(0, len(transactions), BATCH)
    ]
    with connect(database_url) as connection:
        began = time.perf_counter()
        for batch in rows:
            with (
                connection.transaction(),
                connection.cursor().copy(
                    f"COPY transactions ({', '.join(Transaction.__struct_fields__)}) FROM STDIN"
                ) as copy,
            ):
                copy.write(batch)
        return len(transactions) / (time.perf_counter() - began)


def one_insert_each(database_url: str, transactions: list[Transaction]) -> float:
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE old_transactions (hash text PRIMARY KEY, time timestamptz, fee bigint)")
        connection.execute("CREATE TABLE old_inputs (hash text, addr text, value bigint)")
        connection.execute("CREATE TABLE old_outputs (hash text, addr text, value bigint)")
        began = time.perf_counter()
        for tx in transactions:
            connection.execute("INSERT INTO old_transactions VALUES (%s, %s, %s)", [tx.txid, tx.seen_at, tx.fee_sat])
            for spent in tx.inputs:
                connection.execute("INSERT INTO old_inputs VALUES (%s, %s, %s)", [tx.txid, spent.addr, spent.value])
            for made in tx.outputs:
                connection.execute("INSERT INTO old_outputs VALUES (%s, %s, %s)", [tx.txid, made.addr, made.value])
        return len(transactions) / (time.perf_counter() - began)


def socket_to_row(bench: Bench, count: int, *, scored: bool = False) -> float:
    """The rate of commits once the worker has loaded what it needs: after half of the messages, until the last.

    The registry is there, as it would be; without a champion nothing is scored.
    """
    url = bench.database()
    registry = ModelRegistry.of(bench.folder / "ingest", url, None)
    if scored:
        promote_champion(url, registry)
    else:
        registry.prepare()
    with connect(url) as connection:
        connection.execute("TRUNCATE transactions, transaction_scores")
    with bench.ingestion(url, count, 0), connect(url) as connection:

        def received() -> int:
            row = connection.execute("SELECT received FROM ingest_lease").fetchone()
            return row[0] if row else 0

        wait_until(lambda: received() >= count // 2, "half have landed", 300)
        began, before = time.perf_counter(), received()
        wait_until(lambda: received() >= count, "all have landed", 300)
        took = time.perf_counter() - began
        row = connection.execute(
            "SELECT count(*), (SELECT count(*) FROM transaction_scores) FROM transactions"
        ).fetchone()
    assert row is not None
    assert row[0] == count, f"{row[0]} rows of {count} messages"
    assert row[1] >= count // 3 if scored else row[1] == 0, f"{row[1]} of {count} were scored"
    return (count - before) / took
