"""`python -m feature_repo.apply` writes the catalogue into Feast's registry and makes its online tables."""

from typing import TYPE_CHECKING

from txwatch.features.feast import FEATURE_SERVICE, feature_store
from txwatch.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


def apply(database_url: str, redis_url: str | None = None) -> None:
    """Write the definitions of this package into Feast's registry. Safe to repeat."""
    from feature_repo.feature_views import CATALOGUE

    with feature_store(database_url, redis_url) as store:
        store.apply(CATALOGUE)


def apply_if_missing(store: "FeatureStore") -> None:
    """Apply the definitions to an open store, unless its registry has the feature service of the present contract."""
    from feast.errors import FeatureServiceNotFoundException

    try:
        store.get_feature_service(FEATURE_SERVICE)
    except FeatureServiceNotFoundException:
        from feature_repo.feature_views import CATALOGUE

        store.apply(CATALOGUE)


if __name__ == "__main__":
    settings = Settings()
    apply(settings.require_database_url(), settings.redis_url.get_secret_value() if settings.redis_url else None)
