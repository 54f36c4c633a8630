"""The detectors of the product with what the database knows of addresses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from txwatch.detection.packages import stored_parents
from txwatch.detection.rules import Detector, default_detectors
from txwatch.labels.store import KnownAddresses, read_version
from txwatch.store.database import Connection


@dataclass
class CurrentDetectors:
    """Gives the detectors on a connection. The watch list is read again when it or a label has changed."""

    whale_btc: float
    _built: tuple[Connection, int, list[Detector]] | None = field(default=None, init=False, repr=False)

    def __call__(self, connection: Connection) -> Sequence[Detector]:
        """The detectors as of now. Raises psycopg.OperationalError when the database is away."""
        version = read_version(connection)  # before the list: what changes in between is read again the next time
        if self._built is None or self._built[0] is not connection or self._built[1] != version:
            known = KnownAddresses.stored(connection)
            detectors = default_detectors(whale_btc=self.whale_btc, known=known, parents_of=stored_parents(connection))
            self._built = (connection, version, detectors)
        return self._built[2]
