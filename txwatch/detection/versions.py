"""The versions in the registry, for people: list them, make one the champion, go back to the one before."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from txwatch.detection.registry import CHALLENGER, CHAMPION, REGISTERED_MODEL, ModelRegistry
from txwatch.errors import UserError

_BEFORE = "champion_before"


class NoSuchVersionError(UserError):
    """The registry has no such version."""


class NothingBeforeError(UserError):
    """There is no champion before this one to go back to."""


@dataclass(frozen=True)
class ModelVersion:
    """One trained version. `alias` is champion, challenger or None; `decision` what the gate said, if it did. UTC."""

    version: str
    created_at: datetime
    aliases: list[str]
    decision: str | None
    parameters: dict[str, str]
    metrics: dict[str, float]
    run_id: str


def list_versions(registry: ModelRegistry) -> list[ModelVersion]:
    """All versions, the newest first."""
    client = registry.client()
    models = client.search_registered_models(f"name = '{REGISTERED_MODEL}'")
    aliases: dict[str, list[str]] = {}
    for alias, version in (models[0].aliases if models else {}).items():
        aliases.setdefault(str(version), []).append(alias)
    found = client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    versions = [_version(client, one, sorted(aliases.get(str(one.version), []))) for one in found]
    return sorted(versions, key=lambda v: int(v.version), reverse=True)


def make_champion(registry: ModelRegistry, version: str, by: str) -> str:
    """Make a version the champion, whatever the gate says, and keep who did. Returns the version.

    Takes effect where models are read anew: runs at once, a live scorer within its refresh.
    """
    if version not in {one.version for one in list_versions(registry)}:
        raise NoSuchVersionError(f"there is no model version {version}")
    client = registry.client()
    before = registry.champion_version()
    registry.promote(version, {"by": by, "at": datetime.now(UTC).isoformat(), "before": before})
    if before is not None and before != version:
        client.set_registered_model_tag(REGISTERED_MODEL, _BEFORE, before)
    return version


def roll_back(registry: ModelRegistry, by: str) -> str:
    """Make the version that was champion before this one the champion again. Raises NothingBeforeError."""
    client = registry.client()
    champion = registry.champion_version()
    if champion is None:
        raise NothingBeforeError("there is no champion yet")
    tags = client.get_registered_model(REGISTERED_MODEL).tags
    # Where promotions by the gate left no note, the newest version before the champion is the one that it replaced.
    older = [v.version for v in list_versions(registry) if int(v.version) < int(champion)]
    before = tags.get(_BEFORE) if tags.get(_BEFORE) != champion else None
    if before is None and not older:
        raise NothingBeforeError(f"version {champion} is the first champion")
    return make_champion(registry, before or older[0], by)


def _version(client: Any, registered: Any, aliases: list[str]) -> ModelVersion:
    run = client.get_run(registered.run_id)
    return ModelVersion(
        version=str(registered.version),
        created_at=datetime.fromtimestamp(registered.creation_timestamp / 1000, UTC),
        aliases=[alias for alias in aliases if alias in (CHAMPION, CHALLENGER)],
        decision=registered.tags.get("decision"),
        parameters=dict(run.data.params),
        metrics={name: float(value) for name, value in run.data.metrics.items()},
        run_id=str(registered.run_id),
    )
