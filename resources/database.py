"""The product's Postgres, for assets and sensors."""

from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from txwatch.store.database import Connection, process_pool


class DatabaseResource(dg.ConfigurableResource):
    """Connections. The URL comes from the environment, so that the UI shows the variable's name and not its secret."""

    url: str = Field(repr=False, description="postgresql:// URL of the product's database.")

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection of the process's pool for the block. Raises psycopg.OperationalError when the server is away."""
        return process_pool(self.url, application="txwatch dagster").connection()
