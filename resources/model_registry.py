"""MLflow's registry: where trained models go, and where the champion comes from."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from txwatch.detection.registry import ModelRegistry


class ModelRegistryResource(dg.ConfigurableResource):
    """The registry. Addresses may hold passwords: they come from the environment, and are never shown."""

    home: str = Field(description="TXWATCH_HOME, where a registry without a server keeps its files.")
    database_url: str = Field(repr=False, description="postgresql:// URL of the product's database.")
    tracking_uri: str | None = Field(None, repr=False, description="MLflow server. Unset: tables in the same database.")

    def open(self) -> ModelRegistry:
        return ModelRegistry.of(Path(self.home), self.database_url, self.tracking_uri)
