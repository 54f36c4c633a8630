"""Waiting until something is so. How long that takes is no matter: patience ends only when it never will be."""

import asyncio
import threading
from collections.abc import Callable
from time import monotonic

import httpx

PATIENCE_SECONDS = 1800.0
"""Also for one core that others use too. Whatever a test waits for has this much time."""
_LOOK_EVERY_SECONDS = 0.05


def wait_until(
    condition: Callable[[], object],
    what: str,
    patience: float = PATIENCE_SECONDS,
    look_every: float = _LOOK_EVERY_SECONDS,
) -> None:
    """Return once the condition holds. Fails, naming what was waited for, when it does not in `patience` seconds."""
    deadline = monotonic() + patience
    while not condition():
        assert monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        threading.Event().wait(look_every)


async def eventually(condition: Callable[[], object], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """The same in an event loop, which goes on meanwhile."""
    deadline = monotonic() + patience
    while not condition():
        assert monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def answers(url: str) -> bool:
    """Whether a server answers there, and well."""
    try:
        return httpx.get(url, timeout=PATIENCE_SECONDS).is_success
    except httpx.HTTPError:
        return False
