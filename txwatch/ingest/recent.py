"""The txids seen of late, so that repetitions cost no trip to the database."""

from collections.abc import Iterable


class RecentTxids:
    """Remembers at least the last `capacity` txids, at most twice as many.

    Two sets that take turns: of one that forgets txid by txid, every lookup costs twice as much.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._current: set[str] = set()
        self._previous: set[str] = set()

    def add(self, txid: str) -> bool:
        """Remember a txid; whether it is new here."""
        if txid in self._current or txid in self._previous:
            return False
        self._current.add(txid)
        if len(self._current) >= self._capacity:
            self._previous, self._current = self._current, set()
        return True

    def forget(self, txids: Iterable[str]) -> None:
        """Take txids out again that could not be kept, so that the feed may bring them once more."""
        gone = set(txids)
        self._current -= gone
        self._previous -= gone
