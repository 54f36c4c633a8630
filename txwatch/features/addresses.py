"""What each address did: a bucket for each window in which it took part, summed into a trailing day."""

from collections.abc import Iterable
from datetime import datetime

from txwatch.features.context import AddressActivity
from txwatch.store.database import Connection
from txwatch.store.sql import statement
from txwatch.wire.transaction import Transaction


def write_address_activity(connection: Connection, start: datetime, end: datetime) -> int:
    """Rewrite the buckets of the windows in [start, end). Returns how many there are."""
    connection.execute("DELETE FROM address_activity WHERE window_start >= %s AND window_start < %s", [start, end])
    return connection.execute(statement(__file__, "address_activity"), {"start": start, "end": end}).rowcount


def read_address_context(
    connection: Connection, as_of: datetime, transactions: Iterable[Transaction]
) -> dict[str, AddressActivity]:
    """The trailing day, as of a window, of every address that these transactions spend from."""
    addresses = {spent.addr for tx in transactions for spent in tx.inputs if spent.addr is not None}
    rows = connection.execute(statement(__file__, "address_context"), {"as_of": as_of, "addresses": sorted(addresses)})
    return {row[0]: AddressActivity(*row[1:]) for row in rows}
