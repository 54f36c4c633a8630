"""Feast: features for training."""

from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from txwatch.features.catalogue import open_feature_store, training_features

if TYPE_CHECKING:
    import pandas as pd


class FeatureStoreResource(dg.ConfigurableResource):
    """The feature store on the product's database."""

    database_url: str = Field(repr=False, description="postgresql:// URL of the product's database.")

    def training_features(self, start: datetime, end: datetime) -> "pd.DataFrame":
        """The features of all transactions seen in [start, end), ordered by time, as Feast retrieves them."""
        return training_features(open_feature_store(self.database_url), start, end)
