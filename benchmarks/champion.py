"""A champion for measurements of what happens with one."""

from tests.features.window_lane import materialize
from tests.registering import registered
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.training import train
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.store.database import connect
from txwatch.system.history import land_history


def promote_champion(database_url: str, registry: ModelRegistry) -> None:
    """Half an hour of history up to now, its contexts, and a champion that was trained on it."""
    end = window_start(utc_now())
    start = end - 6 * WINDOW
    land_history(database_url, Simulator("2024-03", seed=1, start=start), end)
    with connect(database_url) as connection:
        with connection.transaction():
            materialize(connection, start, end)
        features = read_recent_features(connection, start)
    trained = train(features, start, end, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=1_000)
    registry.promote(registered(registry, trained, features), {})
