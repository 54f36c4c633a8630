"""Write transactions and what comes with them, once each, and read them back.

All functions expect an open database transaction and are idempotent: landing the same batch again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
import psycopg
from msgspec import structs

from txwatch.store.database import Connection, statement
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

# Coins as text, which msgspec decodes into typed values far faster than psycopg into dictionaries.
_SELECT = (
    "SELECT txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size, input_count,"
    " output_count, rbf, version, lock_time, inputs::text, outputs::text, source FROM transactions"
)
_inputs = msgspec.json.Decoder(list[SpentOutput])
_outputs = msgspec.json.Decoder(list[CreatedOutput])


def read_transactions(connection: Connection, start: datetime, end: datetime) -> list[Transaction]:
    """The transactions seen at or after `start` and before `end`, ordered by time, then txid."""
    rows = connection.execute(_SELECT + " WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at, txid", [start, end])
    return [_transaction(row) for row in rows]


def read_transaction(connection: Connection, txid: str) -> Transaction | None:
    """One transaction, or None when it was never landed."""
    row = connection.execute(_SELECT + " WHERE txid = %s", [txid]).fetchone()
    return None if row is None else _transaction(row)


def read_named_transactions(connection: Connection, txids: Sequence[str]) -> list[Transaction]:
    """Those of these transactions that are stored, ordered by txid."""
    rows = connection.execute(_SELECT + " WHERE txid = ANY(%s) ORDER BY txid", [list(txids)])
    return [_transaction(row) for row in rows]


def _transaction(row: tuple[Any, ...]) -> Transaction:
    return Transaction(*(*row[:14], _inputs.decode(row[14]), _outputs.decode(row[15]), row[16]))


MAX_QUARANTINED_BYTES = 65_536
MAX_REASON = 1_000
"""Characters: an error can quote the value that caused it."""
QUARANTINE_MESSAGES = 10_000
QUARANTINE_BYTES = 64 << 20
"""Of the messages that were refused the newest are kept, in both bounds."""
_COPY = (
    "COPY staged_transactions (txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size,"
    " input_count, output_count, rbf, version, lock_time, inputs, outputs, source) FROM STDIN"
)
_ROWS_PER_WRITE = 500
_to_json = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class QuarantinedMessage:
    """A message that was refused, with the reason. Only the first MAX_QUARANTINED_BYTES of its body are kept.

    `size` is that of the whole message in bytes, where `body` is already cut.
    """

    received_at: datetime
    reason: str
    body: bytes
    size: int = 0


def land_transactions(connection: Connection, transactions: Sequence[Transaction]) -> list[str]:
    """Insert the transactions that are not there yet, by COPY into a staging table. Returns the txids that were new."""
    if not transactions:
        return []
    connection.execute(statement("store", "stage_transactions"))
    remaining = iter(transactions)
    with connection.cursor().copy(_COPY) as copy:
        # Rows are formatted here and written many at a time: `write_row` takes four times as long.
        while rows := "".join([copy_row(tx) for tx in islice(remaining, _ROWS_PER_WRITE)]):
            copy.write(rows.encode())
    return [txid for (txid,) in connection.execute(statement("store", "land_transactions"))]


def land_what_is_sound(
    connection: Connection, transactions: Sequence[Transaction]
) -> tuple[list[str], list[QuarantinedMessage]]:
    """Land what the database accepts. Returns the txids that were new, and what it refused, with its reasons.

    A batch that is refused is halved until the transactions that cause it stand alone. Raises psycopg.Error when the
    cause is not in the rows.
    """
    try:
        with connection.transaction():
            return land_transactions(connection, transactions), []
    except (psycopg.Error, UnicodeEncodeError) as error:
        if not is_caused_by_rows(error):
            raise
        if len(transactions) == 1:
            return [], [_refused(transactions[0], error)]
    middle = len(transactions) // 2
    first, first_refused = land_what_is_sound(connection, transactions[:middle])
    second, second_refused = land_what_is_sound(connection, transactions[middle:])
    return first + second, first_refused + second_refused


def is_caused_by_rows(error: Exception) -> bool:
    """Whether the values are at fault: data and integrity errors, and SQLSTATE class 54 (a limit exceeded)."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | UnicodeEncodeError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")


def _refused(tx: Transaction, error: Exception) -> QuarantinedMessage:
    reason = f"the database refused it: {str(error).splitlines()[0]}"
    return QuarantinedMessage(tx.seen_at, reason, msgspec.json.encode(tx))


def copy_row(tx: Transaction) -> str:
    """One transaction as a line of COPY's text format."""
    feed_time = r"\N" if tx.feed_time is None else tx.feed_time
    input_sat = r"\N" if tx.input_sat is None else tx.input_sat
    fee_sat = r"\N" if tx.fee_sat is None else tx.fee_sat
    return (
        f"{tx.txid}\t{tx.seen_at}\t{feed_time}\t{tx.value_sat}\t{input_sat}\t{fee_sat}\t{tx.vsize}\t{tx.weight}"
        f"\t{tx.size}\t{tx.input_count}\t{tx.output_count}\t{tx.rbf}\t{tx.version}\t{tx.lock_time}"
        f"\t{_json(tx.inputs)}\t{_json(tx.outputs)}\t{tx.source}\n"
    )


def _json(items: Sequence[SpentOutput | CreatedOutput]) -> str:
    text = _to_json(items).decode()
    if "\\" not in text:
        return text
    if "\\u0000" in text:
        # U+0000 is valid JSON but no JSONB; only a hostile `addr` can hold it.
        text = _to_json([structs.replace(i, addr=i.addr and i.addr.replace("\0", "\ufffd")) for i in items]).decode()
    return text.replace("\\", "\\\\")


def land_blocks(connection: Connection, blocks: Sequence[WireBlock], seen_at: datetime) -> None:
    """Record block announcements, keyed by hash. The first one counts, also of a block that was found without one."""
    if not blocks:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count)"
            " VALUES (%s, %s, to_timestamp(%s), %s, %s) ON CONFLICT DO NOTHING",
            [(block.hash, block.height, block.time, seen_at, block.n_tx) for block in blocks],
        )
        # By itself: an upsert would wait for each row that a reading of the chain holds.
        cursor.execute(
            "UPDATE blocks SET seen_at = %s, announced = true WHERE hash = ANY(%s) AND NOT announced",
            [seen_at, [block.hash for block in blocks]],
        )


def quarantine(connection: Connection, messages: Sequence[QuarantinedMessage]) -> None:
    """Keep refused messages with their reasons. Older ones make room for them."""
    if not messages:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            statement("store", "quarantine"),
            [
                {
                    "received_at": m.received_at,
                    # A text column holds no U+0000.
                    "reason": m.reason[:MAX_REASON].replace("\0", "\ufffd"),
                    "size": max(m.size, len(m.body)),
                    "body": m.body[:MAX_QUARANTINED_BYTES],
                }
                for m in messages
            ],
        )
    connection.execute(
        statement("store", "trim_quarantine"), {"messages": QUARANTINE_MESSAGES, "bytes": QUARANTINE_BYTES}
    )
