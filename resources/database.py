"""The product's Postgres, as assets and sensors see it."""

from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from txwatch.store.database import Connection, process_pool


class DatabaseResource(dg.ConfigurableResource):
    """Gives connections. The URL comes from the environment, so that the UI shows its name and not its secret."""

    url: str = Field(repr=False, description="postgresql:// URL of the product's database.")

    def connect(self) -> AbstractContextManager[Connection]:
        """One connection for the block, of those that the process keeps.

        Raises psycopg.OperationalError when the server is away.
        """
        return process_pool(self.url, application="txwatch dagster").connection()
