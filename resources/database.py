"""The product's Postgres, as assets and sensors see it."""

from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from txwatch.store.database import Connection, connect


class DatabaseResource(dg.ConfigurableResource):
    """Gives connections. The URL comes from the environment, so that the UI shows its name and not its secret."""

    url: str = Field(repr=False, description="postgresql:// URL of the product's database.")

    def connect(self) -> AbstractContextManager[Connection]:
        """One connection, closed at the end of the block. Raises psycopg.OperationalError when the server is away."""
        return connect(self.url, application="txwatch dagster")
