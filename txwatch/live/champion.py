"""The champion as the live lane sees it: loaded beside the landing, and exchanged when the registry's alias moves."""

import asyncio
from contextlib import suppress
from typing import Protocol

import structlog

from txwatch.detection.model import Model

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 0.25
"""As often as a batch is landed, so that a promotion or a rollback takes effect with the next one."""
AFTER_FAILURE_SECONDS = 5.0


class Registry(Protocol):
    """What is asked of the registry."""

    def champion_version(self) -> str | None:
        """The version that scores, None before the first promotion."""
        ...

    def load(self, version: str) -> Model:
        """One version, ready to score."""
        ...


class Champion:
    """`model` is the champion, None until there is one and it is loaded. What cannot be loaded changes nothing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.model: Model | None = None

    def refresh(self) -> None:
        """Look at the alias, and load what it names if that is another version. Raises what the registry raises."""
        version = self._registry.champion_version()
        if version is None or (self.model is not None and self.model.version == version):
            return
        model = self._registry.load(version)
        model.compact  # noqa: B018 - taken apart here, and not while a batch waits
        log.info("champion_loaded", model_version=version, before=self.model and self.model.version)
        self.model = model

    async def follow(self, stop: asyncio.Event) -> None:
        """Keep `model` up to date until `stop` is set. In a thread, for importing MLflow takes seconds."""
        while not stop.is_set():
            pause = LOOK_EVERY_SECONDS
            try:
                await asyncio.to_thread(self.refresh)
            except Exception as error:
                # A registry that is away, or a champion of another contract: the one at hand goes on.
                log.warning("champion_not_loaded", cause=f"{type(error).__name__}: {error}")
                pause = AFTER_FAILURE_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
