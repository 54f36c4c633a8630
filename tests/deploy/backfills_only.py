"""The code location without its sensors, whose shifts of ingestion would take the slots that a test counts on."""

import dagster as dg

from blockchain_assets.definitions import build_defs
from txwatch.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """The project's assets and resources."""
    whole = build_defs(Settings())
    return dg.Definitions(assets=whole.assets, resources=whole.resources, executor=whole.executor)
