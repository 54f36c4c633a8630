"""What a run of the window lane does, without Dagster around it."""

from datetime import datetime

from txwatch.features.addresses import write_address_activity
from txwatch.features.context import NetworkContext
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.store.database import Connection


def materialize(connection: Connection, start: datetime, end: datetime) -> list[NetworkContext]:
    """Activity, baseline and features of the windows in [start, end), in the order in which a run computes them."""
    for _ in write_address_activity([connection], start, end):
        pass
    contexts = publish_network_baseline(connection, start, end)
    for _ in write_features(connection, start, end):
        pass
    return contexts
