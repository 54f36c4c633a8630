"""What the local feed plays and when: a capture at an even rate, then the simulator by its own arrivals.

Belongs here: the schedule. It knows no socket and no clock; it is asked what is due.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple

import msgspec

from txwatch.captures import CapturedMessage, existing_capture, read_capture
from txwatch.places import Place
from txwatch.simulator.chain import read_transaction
from txwatch.simulator.regimes import regime_named
from txwatch.simulator.replacing import REPLACED_SHARE
from txwatch.simulator.traffic import Simulator

FIRST_WHALE_WITHIN_SECONDS = 6.0
"""Whoever looks at a demo for the first time need not wait for what it is about."""

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Played(NamedTuple):
    """One message and when it was due (UTC); `labels` say what is known about it, `replaces` whose coins it spends."""

    at: datetime
    message: bytes
    labels: tuple[str, ...]
    replaces: str | None = None


class Playlist:
    """The messages of a capture, if there is one, then simulated ones without end.

    `rate` (transactions a second) is that of the capture, and of the simulator only if there is no capture; both are
    the regime's own by default. Raises ValueError for an unknown regime or a rate that is not positive,
    CaptureError for a capture that is not there.
    """

    def __init__(
        self,
        *,
        capture: Place | None,
        rate: float | None,
        regime: str,
        seed: int,
        replaced_share: float = REPLACED_SHARE,
    ) -> None:
        regimes_rate = regime_named(regime).transactions_per_second
        if rate is not None and not 0 < rate < inf:
            raise ValueError(f"rate is {rate}, it must be a number above 0, in transactions a second")
        self._capture_rate = rate or regimes_rate
        self._simulated_rate = rate if capture is None else None
        self._regime, self._seed, self._replaced_share = regime, seed, replaced_share
        self._captured: Iterator[CapturedMessage] = (
            iter(()) if capture is None else read_capture(existing_capture(capture))
        )
        self._start: datetime | None = None
        self._next: CapturedMessage | None = None
        self._played = 0
        self._simulator: Simulator | None = None

    def begin(self, at: datetime) -> None:
        """Play from this moment on. A second call changes nothing. Raises CaptureError for a bad first line."""
        if self._start is None:
            self._start = at
            self._next = next(self._captured, None)

    def until(self, now: datetime) -> Iterator[Played]:
        """What is due before `now` and has not been given yet, in order; nothing before `begin`.

        Raises CaptureError for a line of the capture that cannot be read.
        """
        if self._start is None:
            return
        while self._next is not None:
            if (at := self._captured_at(self._start)) >= now:
                return
            captured, self._next = self._next, next(self._captured, None)
            self._played += 1
            yield Played(at, restamped(captured.message, now), tuple(captured.labels))
        if self._simulator is None:
            start = self._captured_at(self._start)
            self._simulator = Simulator(
                self._regime,
                seed=self._seed,
                start=start,
                rate=self._simulated_rate,
                replaced_share=self._replaced_share,
                first_whale_within=FIRST_WHALE_WITHIN_SECONDS,
            )
        for transaction in self._simulator.until(now):
            yield Played(transaction.at, transaction.message, transaction.labels, transaction.replaces)

    def _captured_at(self, start: datetime) -> datetime:
        return start + timedelta(seconds=self._played / self._capture_rate)


def restamped(message: bytes, now: datetime) -> bytes:
    """The message with its transaction's `time` set to now; unchanged if it is no valid `utx`."""
    if read_transaction(message, now) is None:
        return message
    parts = _object.decode(message)
    body = _object.decode(parts["x"])
    body["time"] = msgspec.Raw(str(int(now.timestamp())).encode())
    parts["x"] = msgspec.Raw(msgspec.json.encode(body))
    return msgspec.json.encode(parts)
