"""Who saw which transaction when, and the sources that are followed."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from txwatch.store.database import Connection, read_rows, statement


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A source told of a transaction, for the first time at `seen_at`, UTC."""

    txid: str
    source: str
    seen_at: datetime


def land_sightings(connection: Connection, sightings: Sequence[Sighting]) -> None:
    """Insert the sightings that are not there yet; the first of a source counts.

    What it was said to have removed before that moment is no longer removed there: it came back.
    """
    if not sightings:
        return
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS staged_sightings ON COMMIT DELETE ROWS AS"
        " SELECT txid, source, seen_at FROM sightings WITH NO DATA"
    )
    with connection.cursor().copy("COPY staged_sightings FROM STDIN") as copy:
        copy.write("".join([f"{one.txid}\t{one.source}\t{one.seen_at}\n" for one in sightings]).encode())
    # In one order, so that two workers that overlap cannot deadlock.
    connection.execute(
        "INSERT INTO sightings SELECT txid, source, seen_at FROM staged_sightings ORDER BY txid, source"
        " ON CONFLICT DO NOTHING"
    )
    connection.execute(
        "DELETE FROM removals USING staged_sightings AS again"
        " WHERE removals.txid = again.txid AND removals.source = again.source AND removed_at < again.seen_at"
    )


class FollowedSource(msgspec.Struct, frozen=True):
    """A source that was followed from `followed_since` until `noted_at`; all that it told until `heard_at` is landed.

    `min_fee_rate`, in sat/vB, and `data_carrier_bytes` bound what it relays. `network` is main but for tests.
    """

    source: str
    followed_since: datetime
    heard_at: datetime
    noted_at: datetime
    connected: bool
    text: str
    min_fee_rate: float
    data_carrier_bytes: int
    network: str = "main"


def followed_sources(connection: Connection) -> list[FollowedSource]:
    """Every source that was ever followed, by name."""
    query = (
        "SELECT source, followed_since, heard_at, noted_at, connected, text, min_fee_rate, data_carrier_bytes, network"
        " FROM feed_sources ORDER BY source"
    )
    return read_rows(connection, FollowedSource, query)


def note_sources(connection: Connection, sources: Sequence[FollowedSource]) -> None:
    """Note how the sources are; the first moment at which one was followed stays."""
    connection.cursor().executemany(
        "INSERT INTO feed_sources AS known"
        " (source, followed_since, heard_at, noted_at, connected, text, min_fee_rate, data_carrier_bytes, network)"
        " VALUES (%(source)s, %(followed_since)s, %(heard_at)s, %(noted_at)s, %(connected)s, %(text)s,"
        " %(min_fee_rate)s, %(data_carrier_bytes)s, %(network)s) ON CONFLICT (source) DO UPDATE SET"
        " heard_at = greatest(known.heard_at, excluded.heard_at),"
        " noted_at = greatest(known.noted_at, excluded.noted_at), connected = excluded.connected,"
        " text = excluded.text, min_fee_rate = excluded.min_fee_rate,"
        " data_carrier_bytes = excluded.data_carrier_bytes, network = excluded.network",
        [msgspec.structs.asdict(one) for one in sources],
    )


class MinedTransaction(msgspec.Struct, frozen=True):
    """A transaction that a block holds, first seen anywhere at `seen_at`.

    `fee_rate` is in sat/vB, None if unknown; `data_bytes` are those of its OP_RETURN scripts.
    """

    txid: str
    seen_at: datetime
    fee_rate: float | None
    data_bytes: int


class BlockCompleteness(msgspec.Struct, frozen=True):
    """What a source had told of a block's transactions that were first seen since it is followed."""

    height: int
    source: str
    mined: int
    seen_before: int
    by_policy: int
    """Not told, for its fee is too low or its data too large for the source."""


def read_completeness(connection: Connection, hashes: Sequence[str]) -> list[BlockCompleteness]:
    """The completeness of these blocks by source, the lowest first."""
    query = (
        "SELECT height, source, block_completeness.mined_count AS mined,"
        " block_completeness.seen_before_count AS seen_before, below_relay_fee + above_data_carrier AS by_policy"
        " FROM block_completeness JOIN blocks ON hash = block_hash WHERE block_hash = ANY(%s) ORDER BY height, source"
    )
    return read_rows(connection, BlockCompleteness, query, [list(hashes)])


def record_completeness(
    connection: Connection,
    block_hash: str,
    mined: Sequence[MinedTransaction],
    announced: datetime,
    network: str = "main",
) -> None:
    """Record for each source of the block's network how many of its transactions it had told before the block.

    And which of the others its policy leaves out.
    """
    columns = {
        "txids": [one.txid for one in mined],
        "seen_at": [one.seen_at for one in mined],
        "fee_rates": [one.fee_rate for one in mined],
        "data_bytes": [one.data_bytes for one in mined],
    }
    given = {"block_hash": block_hash, "announced": announced, "network": network, **columns}
    connection.execute(statement("store", "record_completeness"), given)
