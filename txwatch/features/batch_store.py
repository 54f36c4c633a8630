"""Stored transactions straight to columns, for features by the window: no object for each transaction is made."""

from datetime import datetime

import msgspec
import numpy as np

from txwatch.features.batch import TransactionBatch, coins_of
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.wire.transaction import CreatedOutput, SpentOutput

_inputs = msgspec.json.Decoder(list[list[SpentOutput]])
_outputs = msgspec.json.Decoder(list[list[CreatedOutput]])


def read_batch(connection: Connection, start: datetime, end: datetime) -> TransactionBatch:
    """The transactions seen at or after `start` and before `end`, ordered by time, then txid.

    The same to the last digit as `TransactionBatch.of(read_transactions(...))`, in about half the time.
    """
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(statement(__file__, "select_batch"), {"start": start, "end": end}).fetchall()
    txids, seen_us, value, fee, vsize, weight, size, rbf, version, lock_time, inputs, outputs = (
        zip(*rows, strict=True) if rows else [()] * 12
    )
    numbers: dict[str, int] = {}
    return TransactionBatch(
        txids=list(txids),
        seen_us=np.array(seen_us, np.int64),
        value_sat=np.array(value, np.int64),
        fee_sat=np.array(fee, np.float64),  # None becomes NaN
        vsize=np.array(vsize, np.int64),
        weight=np.array(weight, np.int64),
        size=np.array(size, np.int64),
        rbf=np.array(rbf, np.bool_),
        version=np.array(version, np.int64),
        lock_time=np.array(lock_time, np.int64),
        # One document of all of them is decoded faster than one for each.
        inputs=coins_of(_inputs.decode(f"[{','.join(inputs)}]"), numbers),
        outputs=coins_of(_outputs.decode(f"[{','.join(outputs)}]"), numbers),
        addresses=list(numbers),
    )
