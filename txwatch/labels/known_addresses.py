"""What the detectors are told of addresses: which are watched, and whose they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from txwatch.labels.label import Known
from txwatch.labels.store import read_known
from txwatch.labels.watch_list import read_watch_list
from txwatch.store.database import Connection


class KnownAddresses(Protocol):
    """What is known at one moment."""

    @property
    def watched(self) -> Mapping[str, str]:
        """The watched addresses, each with its note."""
        ...

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """What is known of those of the addresses that have labels."""
        ...


@dataclass(frozen=True)
class GivenAddresses:
    """What the caller says, by default nothing: for captures that are judged without a database, and for tests."""

    watched: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Known] = field(default_factory=dict)

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """See `KnownAddresses`."""
        return {address: self.labels[address] for address in addresses if address in self.labels}


@dataclass(frozen=True)
class StoredAddresses:
    """What the database knows: the watch list as it was read, labels as they are when they are asked for."""

    connection: Connection
    watched: Mapping[str, str]

    @classmethod
    def on(cls, connection: Connection) -> "StoredAddresses":
        """What is known now."""
        return cls(connection, read_watch_list(connection))

    def labels_of(self, addresses: Iterable[str]) -> Mapping[str, Known]:
        """See `KnownAddresses`. Raises psycopg.OperationalError when the database is away."""
        return read_known(self.connection, addresses)
