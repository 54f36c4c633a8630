"""Write transactions, blocks and refused messages, and read transactions back.

Writers expect an open database transaction and are idempotent: landing the same batch again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
import psycopg
from msgspec import structs
from psycopg import sql

from txwatch.store.database import Connection, statement, storable
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

# A column of `transactions` for each field of Transaction, in that order.
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Transaction.__struct_fields__))
_STAGE = sql.SQL(
    "CREATE TEMP TABLE IF NOT EXISTS staged_transactions ON COMMIT DELETE ROWS AS"
    " SELECT {} FROM transactions WITH NO DATA"
).format(_COLUMNS)
_COPY = sql.SQL("COPY staged_transactions ({}) FROM STDIN").format(_COLUMNS)
# In order of txid, so that two workers that overlap lock rows in one order and cannot deadlock.
_LAND = sql.SQL(
    "INSERT INTO transactions ({0}) SELECT {0} FROM staged_transactions ORDER BY txid"
    " ON CONFLICT (txid) DO NOTHING RETURNING txid"
).format(_COLUMNS)
# Coins as text, which msgspec decodes into typed values far faster than psycopg into dictionaries.
_SELECT = sql.SQL("SELECT {} FROM transactions").format(
    sql.SQL(", ").join(
        sql.SQL("{}::text" if name in {"inputs", "outputs"} else "{}").format(sql.Identifier(name))
        for name in Transaction.__struct_fields__
    )
)
_inputs = msgspec.json.Decoder(list[SpentOutput])
_outputs = msgspec.json.Decoder(list[CreatedOutput])


def read_transactions(connection: Connection, start: datetime, end: datetime) -> list[Transaction]:
    """The transactions seen at or after `start` and before `end`, ordered by time, then txid."""
    where = sql.SQL(" WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at, txid")
    rows = connection.execute(_SELECT + where, [start, end])
    return [_transaction(row) for row in rows]


def read_transaction(connection: Connection, txid: str) -> Transaction | None:
    """One transaction, or None when it was never landed."""
    row = connection.execute(_SELECT + sql.SQL(" WHERE txid = %s"), [txid]).fetchone()
    return None if row is None else _transaction(row)


def read_named_transactions(connection: Connection, txids: Sequence[str]) -> list[Transaction]:
    """Those of these transactions that are stored, ordered by txid."""
    rows = connection.execute(_SELECT + sql.SQL(" WHERE txid = ANY(%s) ORDER BY txid"), [list(txids)])
    return [_transaction(row) for row in rows]


def stored_txids(connection: Connection, txids: Sequence[str]) -> set[str]:
    """Those of these txids that are stored."""
    rows = connection.execute("SELECT txid FROM transactions WHERE txid = ANY(%s)", [list(txids)])
    return {txid for (txid,) in rows}


def _transaction(row: tuple[Any, ...]) -> Transaction:
    *plain, inputs, outputs, source, tip_height = row
    return Transaction(*(*plain, _inputs.decode(inputs), _outputs.decode(outputs), source, tip_height))


MAX_QUARANTINED_BYTES = 65_536
MAX_REASON = 1_000
"""Characters; an error can quote the value that caused it."""
QUARANTINE_MESSAGES = 10_000
QUARANTINE_BYTES = 64 << 20
"""Of the quarantine: the newest messages within both bounds are kept."""
_ROWS_PER_WRITE = 500
_to_json = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class QuarantinedMessage:
    """A refused message with the reason. `body` may be cut, at MAX_QUARANTINED_BYTES; `size` is that of the whole."""

    received_at: datetime
    reason: str
    body: bytes
    size: int = 0


def land_transactions(connection: Connection, transactions: Sequence[Transaction]) -> list[str]:
    """Insert the transactions that are not there yet, by way of a staging table. Returns the txids that were new."""
    if not transactions:
        return []
    connection.execute(_STAGE)
    remaining = iter(transactions)
    with connection.cursor().copy(_COPY) as copy:
        # Format rows here and write many at a time: `write_row` takes four times as long.
        while rows := "".join([copy_row(tx) for tx in islice(remaining, _ROWS_PER_WRITE)]):
            copy.write(rows.encode())
    return [txid for (txid,) in connection.execute(_LAND)]


def land_what_is_sound(
    connection: Connection, transactions: Sequence[Transaction]
) -> tuple[list[str], list[QuarantinedMessage]]:
    """Land what the database accepts. Returns the txids that were new, and what it refused.

    Halves a refused batch until the transactions at fault stand alone. Raises psycopg.Error for another cause.
    """
    try:
        with connection.transaction():
            return land_transactions(connection, transactions), []
    except (psycopg.Error, UnicodeEncodeError) as error:
        if not is_caused_by_rows(error):
            raise
        if len(transactions) == 1:
            reason = f"the database refused it: {str(error).splitlines()[0]}"
            return [], [QuarantinedMessage(transactions[0].seen_at, reason, _to_json(transactions[0]))]
    middle = len(transactions) // 2
    first, first_refused = land_what_is_sound(connection, transactions[:middle])
    second, second_refused = land_what_is_sound(connection, transactions[middle:])
    return first + second, first_refused + second_refused


def is_caused_by_rows(error: Exception) -> bool:
    """Whether the values are at fault: data and integrity errors, and SQLSTATE class 54 (a limit exceeded)."""
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | UnicodeEncodeError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")


def copy_row(tx: Transaction) -> str:
    """One transaction as a line of COPY's text format, in the order of its fields."""
    *plain, inputs, outputs, source, tip_height = structs.astuple(tx)
    cells = [copy_cell(value) for value in plain]
    return "\t".join([*cells, _json(inputs), _json(outputs), source, copy_cell(tip_height)]) + "\n"


def copy_cell(value: object) -> str:
    """A value without tabs or backslashes as a cell of COPY's text format."""
    return r"\N" if value is None else str(value)


def _json(items: Sequence[SpentOutput | CreatedOutput]) -> str:
    text = _to_json(items).decode()
    if "\\" not in text:
        return text
    if "\\u0000" in text:
        # U+0000 is valid in JSON, not in JSONB; only a hostile `addr` can hold it.
        text = _to_json([structs.replace(i, addr=i.addr and i.addr.replace("\0", "\ufffd")) for i in items]).decode()
    return text.replace("\\", "\\\\")


def land_blocks(connection: Connection, blocks: Sequence[WireBlock], seen_at: datetime) -> None:
    """Record block announcements. The first of a block counts, also if its contents were fetched before."""
    if not blocks:
        return
    connection.cursor().executemany(
        "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count)"
        " VALUES (%s, %s, to_timestamp(%s), %s, %s) ON CONFLICT DO NOTHING",
        [(block.hash, block.height, block.time, seen_at, block.n_tx) for block in blocks],
    )
    hashes = [block.hash for block in blocks]
    # Not an upsert: it would wait for each row that recovery has locked.
    connection.execute(
        "UPDATE blocks SET seen_at = %s, announced = true WHERE hash = ANY(%s) AND NOT announced", [seen_at, hashes]
    )
    connection.execute(
        "UPDATE blocks SET removed_at = NULL, stale = false WHERE hash = ANY(%s) AND removed_at IS NOT NULL", [hashes]
    )


def remove_blocks(connection: Connection, hashes: Sequence[str], now: datetime) -> None:
    """Note blocks that left the chain by a source that says so: what they confirmed is unconfirmed again."""
    if hashes:
        connection.execute("UPDATE blocks SET removed_at = %s, stale = true WHERE hash = ANY(%s)", [now, list(hashes)])


def quarantine(connection: Connection, messages: Sequence[QuarantinedMessage]) -> None:
    """Keep refused messages with their reasons, and drop older ones beyond the bounds."""
    if not messages:
        return
    rows = [
        {
            "received_at": m.received_at,
            "reason": storable(m.reason[:MAX_REASON]),
            "size": max(m.size, len(m.body)),
            "body": m.body[:MAX_QUARANTINED_BYTES],
        }
        for m in messages
    ]
    connection.cursor().executemany(statement("store", "quarantine"), rows)
    bounds = {"messages": QUARANTINE_MESSAGES, "bytes": QUARANTINE_BYTES}
    connection.execute(statement("store", "trim_quarantine"), bounds)
