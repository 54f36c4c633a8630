"""The champion as the live lane sees it: loaded beside the landing, and exchanged when the registry's alias moves."""

import gc
import threading
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
    """`model` is the champion, None until there is one and it is loaded. What cannot be loaded changes nothing.

    It is followed in a thread, which does not hold up the end of the process: importing MLflow takes seconds, and a
    registry may not answer.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
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

    def start(self) -> None:
        """Keep `model` up to date from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Keep it up to date no longer."""
        self._stop.set()

    def _follow(self) -> None:
        pause, spared = 0.0, False
        while not self._stop.wait(pause):
            pause = LOOK_EVERY_SECONDS
            try:
                before = self.model
                self.refresh()
                if not spared or self.model is not before:
                    spared = True
                    _spare_the_collector()
            except Exception as error:
                # A registry that is away, or a champion of another contract: the one at hand goes on.
                log.warning("champion_not_loaded", cause=f"{type(error).__name__}: {error}")
                pause = AFTER_FAILURE_SECONDS


def _spare_the_collector() -> None:
    """Leave what is there by now, MLflow and the model above all, out of every later collection of cyclic garbage.

    A flood makes the collector run all the time, and a third of all work would be to walk a million objects that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
