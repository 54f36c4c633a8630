"""Landing: a batch of what the feed sent becomes durable rows, once each.

All functions expect an open database transaction and are idempotent: landing the same batch again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.wire.messages import WireBlock
from txwatch.wire.transaction import Transaction

MAX_QUARANTINED_BYTES = 65_536


@dataclass(frozen=True)
class QuarantinedMessage:
    """A message that was refused, with the reason. Only the first MAX_QUARANTINED_BYTES of its body are kept."""

    received_at: datetime
    reason: str
    body: bytes


@dataclass(frozen=True)
class FeedGap:
    """A stretch in which the feed was not heard. Times UTC."""

    started_at: datetime
    ended_at: datetime
    cause: str


_encoder = msgspec.json.Encoder()
_to_json = _encoder.encode


def land_transactions(connection: Connection, transactions: Sequence[Transaction]) -> list[str]:
    """Insert the transactions that are not there yet, by COPY into a staging table. Returns the txids that were new."""
    if not transactions:
        return []
    connection.execute(statement(__file__, "stage_transactions"))
    with connection.cursor().copy(
        "COPY staged_transactions (txid, seen_at, feed_time, value_sat, input_sat, fee_sat, vsize, weight, size,"
        " input_count, output_count, rbf, version, lock_time, inputs, outputs, source) FROM STDIN"
    ) as copy:
        for tx in transactions:
            copy.write_row(
                (
                    tx.txid,
                    tx.seen_at,
                    tx.feed_time,
                    tx.value_sat,
                    tx.input_sat,
                    tx.fee_sat,
                    tx.vsize,
                    tx.weight,
                    tx.size,
                    tx.input_count,
                    tx.output_count,
                    tx.rbf,
                    tx.version,
                    tx.lock_time,
                    # U+0000 is valid JSON but no JSONB; only a hostile `addr` can hold it.
                    _to_json(tx.inputs).decode().replace("\\u0000", "\\ufffd"),
                    _to_json(tx.outputs).decode().replace("\\u0000", "\\ufffd"),
                    tx.source,
                )
            )
    return [txid for (txid,) in connection.execute(statement(__file__, "land_transactions"))]


def land_blocks(connection: Connection, blocks: Sequence[WireBlock], seen_at: datetime) -> None:
    """Record block announcements, keyed by hash."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO blocks (hash, height, block_time, seen_at, tx_count)"
            " VALUES (%s, %s, to_timestamp(%s), %s, %s) ON CONFLICT DO NOTHING",
            [(block.hash, block.height, block.time, seen_at, block.n_tx) for block in blocks],
        )


def quarantine(connection: Connection, messages: Sequence[QuarantinedMessage]) -> None:
    """Keep refused messages with their reasons."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO quarantined_messages (received_at, reason, size, body) VALUES (%s, %s, %s, %s)",
            [(m.received_at, m.reason, len(m.body), m.body[:MAX_QUARANTINED_BYTES]) for m in messages],
        )


def record_gaps(connection: Connection, gaps: Sequence[FeedGap]) -> None:
    """Enter gaps that have ended into the ledger."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO feed_gaps (started_at, ended_at, cause, state) VALUES (%s, %s, %s, 'ended')",
            [(gap.started_at, gap.ended_at, gap.cause) for gap in gaps],
        )
