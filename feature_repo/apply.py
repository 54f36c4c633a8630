"""`python -m feature_repo.apply` writes the catalogue into Feast's registry and makes its online tables."""

from txwatch.features.catalogue import feature_store
from txwatch.settings import Settings


def apply(database_url: str, redis_url: str | None = None) -> None:
    """Bring Feast's registry to the definitions of this package. Safe to repeat."""
    from feature_repo.feature_views import CATALOGUE

    with feature_store(database_url, redis_url) as store:
        store.apply(CATALOGUE)


if __name__ == "__main__":
    settings = Settings()
    apply(settings.require_database_url(), settings.redis_url.get_secret_value() if settings.redis_url else None)
