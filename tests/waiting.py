"""Waiting until something is so, and no longer than a test may take."""

import asyncio
import threading
from collections.abc import Callable
from time import monotonic

import httpx

PATIENCE_SECONDS = 60.0
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
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False
