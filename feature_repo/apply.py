"""`python -m feature_repo.apply` writes the catalogue into Feast's registry and makes its online tables."""

from txwatch.features.catalogue import open_feature_store
from txwatch.settings import Settings


def apply(database_url: str) -> None:
    """Bring Feast's registry to the definitions of this package. Safe to repeat."""
    from feature_repo.feature_views import CATALOGUE

    open_feature_store(database_url).apply(CATALOGUE)


if __name__ == "__main__":
    apply(Settings().require_database_url())
