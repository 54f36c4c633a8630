"""Feast: features for training, and what is served online."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from feature_repo.apply import apply_if_missing
from txwatch.features.context import NetworkContext
from txwatch.features.feast import feature_store, push_network_contexts, training_features

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore


class FeatureStoreResource(dg.ConfigurableResource):
    """The feature store on the product's database; the online store is in Redis if it has a URL."""

    database_url: str = Field(repr=False, description="postgresql:// URL of the product's database.")
    redis_url: str | None = Field(None, repr=False, description="redis:// URL of the online store. None: Postgres.")
    retention_days: int = Field(90, description="How long Redis keeps what is pushed.")

    def training_features(self, start: datetime, end: datetime) -> "pd.DataFrame":
        """The features of all transactions seen in [start, end), ordered by time, as Feast retrieves them."""
        with self._store() as store:
            return training_features(store, start, end)

    def push_network_contexts(self, contexts: Sequence[NetworkContext]) -> None:
        with self._store() as store:
            push_network_contexts(store, contexts)

    @contextmanager
    def _store(self) -> Iterator["FeatureStore"]:
        with feature_store(self.database_url, self.redis_url, timedelta(days=self.retention_days)) as store:
            apply_if_missing(store)
            yield store
