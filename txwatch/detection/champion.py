"""The champion in a process: loaded once, and exchanged when the registry's alias moves."""

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from txwatch.detection.model import Model

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 0.25
"""Seconds, as between batches, so that a promotion or a rollback takes effect with the next one."""
AFTER_FAILURE_SECONDS = 5.0


class Registry(Protocol):
    """The part of the registry that is used here."""

    def champion_version(self) -> str | None:
        """The version that scores, None before the first promotion."""

    def load(self, version: str) -> Model:
        """One version, ready to score."""


class Champion:
    """`model` is the champion, None until one is loaded. A model that cannot be loaded changes nothing.

    `loaded` is called in the thread after the first look, and after each exchange of the model.
    """

    def __init__(self, registry: Registry, loaded: Callable[[], None] = lambda: None) -> None:
        self._registry, self._loaded = registry, loaded
        self._stop = threading.Event()
        self.model: Model | None = None

    def refresh(self) -> None:
        """Load the version that the alias names, if it is another one. Raises what the registry raises."""
        version = self._registry.champion_version()
        if version is None or (self.model is not None and self.model.version == version):
            return
        model = self._registry.load(version)
        model.compact  # noqa: B018 - computed now, and not while a batch waits
        log.info("champion_loaded", model_version=version, before=self.model and self.model.version)
        self.model = model

    def start(self) -> None:
        """Keep `model` up to date until `stop`, in a thread: MLflow's import takes seconds, a registry may hang."""
        threading.Thread(target=self._follow, name="champion", daemon=True).start()

    def stop(self) -> None:
        """Stop keeping it up to date."""
        self._stop.set()

    def _follow(self) -> None:
        pause, looked_at = 0.0, object()
        while not self._stop.wait(pause):
            pause = LOOK_EVERY_SECONDS
            try:
                self.refresh()
                if self.model is not looked_at:
                    self._loaded()
                    looked_at = self.model
            except Exception as error:
                # The registry is away, or the champion has another contract: the loaded one stays.
                log.warning("champion_not_loaded", cause=f"{type(error).__name__}: {error}")
                pause = AFTER_FAILURE_SECONDS
