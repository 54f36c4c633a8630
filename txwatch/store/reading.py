"""Reading stored transactions back as the values that were landed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from txwatch.store.database import Connection
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
