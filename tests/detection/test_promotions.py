"""A promotion and what is told of it go together, also if the process ends at any point between."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from tests.conftest import HISTORY_START, Installation
from tests.databases import empty_tables
from tests.registering import registered
from txwatch.clock import WINDOW, utc_now
from txwatch.detection.promotions import (
    NoSuchVersionError,
    NothingBeforeError,
    make_champion,
    promote_challenger,
    roll_back,
)
from txwatch.detection.registry import ModelRegistry, list_versions
from txwatch.detection.training import train
from txwatch.features.contract import FEATURE_NAMES
from txwatch.store.database import Connection, connect

NOW = utc_now()
LATER = NOW + timedelta(minutes=5)


class KilledError(BaseException):
    """The process has ended here."""


@dataclass(frozen=True)
class MortalRegistry(ModelRegistry):
    """A registry whose caller ends before or after the champion has changed."""

    dies: str = field(default="before")

    def promote(self, version: str, decision: Mapping[str, Any]) -> None:
        if self.dies == "within":
            self.client().set_registered_model_alias("txwatch", "champion", version)
        if self.dies == "after":
            super().promote(version, decision)
        raise KilledError


@pytest.fixture(scope="module")
def template(prepared: str) -> str:
    """MLflow has its tables, and no model."""
    return prepared


@pytest.fixture(scope="module")
def registry(installation: Installation) -> ModelRegistry:
    """The installation's own, with three versions of a small model."""
    registry = ModelRegistry.of(installation.home, installation.database_url, None)
    features = np.random.default_rng(5).lognormal(3, 2, (600, len(FEATURE_NAMES)))
    end = HISTORY_START + WINDOW
    small = train(features, HISTORY_START, end, alerts_per_hour=12, whale_btc=500, seed=3, min_rows=1, trees=10)
    assert [registered(registry, small, features) for _ in range(3)] == ["1", "2", "3"]
    return registry


@pytest.fixture
def connection(installation: Installation, registry: ModelRegistry) -> Iterator[Connection]:
    """Version 2 is the champion, and nobody knows since when."""
    registry.promote("2", {})
    with connect(installation.database_url) as connection:
        empty_tables(connection, "promotions, changes")
        yield connection


def changes(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT who, subject, action, changed_at FROM changes ORDER BY id").fetchall()


def outcomes(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT version, before, made FROM promotions ORDER BY id").fetchall()


def decided(registry: ModelRegistry, version: str) -> str | None:
    return next(one.decision for one in list_versions(registry) if one.version == version)


def test_a_rollback_goes_to_the_version_that_was_champion_before(
    connection: Connection, registry: ModelRegistry
) -> None:
    promote_challenger(connection, registry, "3", {"checks": {"unknown": float("nan")}}, NOW)
    assert make_champion(connection, registry, "1", "key:alice", NOW) == "1"
    assert roll_back(connection, registry, "key:bob", LATER) == "3"
    assert registry.champion_version() == "3"
    assert roll_back(connection, registry, "key:bob", LATER) == "1", "it was champion before this one"
    assert changes(connection) == [
        ("key:alice", "1", "promote", NOW),
        ("key:bob", "3", "rollback", LATER),
        ("key:bob", "1", "rollback", LATER),
    ], "the gate is no person"
    assert outcomes(connection) == [("3", "2", True), ("1", "3", True), ("3", "1", True), ("1", "3", True)]


def test_where_nobody_kept_what_was_before_it_is_the_newest_below(
    connection: Connection, registry: ModelRegistry
) -> None:
    assert roll_back(connection, registry, "key:bob", NOW) == "1"
    with pytest.raises(NoSuchVersionError):
        make_champion(connection, registry, "9", "key:bob", NOW)
    empty_tables(connection, "promotions")
    with pytest.raises(NothingBeforeError):
        roll_back(connection, registry, "key:bob", NOW)


@pytest.mark.parametrize(("dies", "made"), [("before", False), ("within", True), ("after", True)])
def test_what_was_left_between_is_settled_by_whoever_comes_next(
    connection: Connection, registry: ModelRegistry, dies: str, made: bool
) -> None:
    registry.client().delete_model_version_tag("txwatch", "3", "decision")
    mortal = MortalRegistry(registry.tracking_uri, registry.artifacts, dies)
    with pytest.raises(KilledError):
        make_champion(connection, mortal, "3", "key:alice", NOW)
    assert registry.champion_version() == ("3" if made else "2")
    assert (changes(connection), outcomes(connection)) == ([], [("3", "2", None)])
    assert roll_back(connection, registry, "key:bob", LATER) == ("2" if made else "1")
    assert outcomes(connection)[0] == ("3", "2", made)
    alice = [("key:alice", "3", "promote", NOW)] if made else []
    assert changes(connection) == [*alice, ("key:bob", "2" if made else "1", "rollback", LATER)]
    assert decided(registry, "3") == ("promoted" if made else None)
