"""Reading stored transactions back as the values that were landed."""

from datetime import datetime

import msgspec

from txwatch.store.database import Connection
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

_inputs = msgspec.json.Decoder(list[SpentOutput])
_outputs = msgspec.json.Decoder(list[CreatedOutput])


def read_transactions(connection: Connection, start: datetime, end: datetime) -> list[Transaction]:
    """The transactions seen at or after `start` and before `end`, ordered by time, then txid."""
    # As text, which msgspec decodes into typed values far faster than psycopg into dictionaries.
    rows = connection.execute(
        "SELECT txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size, input_count,"
        " output_count, rbf, version, lock_time, inputs::text, outputs::text, source"
        " FROM transactions WHERE seen_at >= %s AND seen_at < %s ORDER BY seen_at, txid",
        [start, end],
    )
    return [Transaction(*(*row[:14], _inputs.decode(row[14]), _outputs.decode(row[15]), row[16])) for row in rows]
