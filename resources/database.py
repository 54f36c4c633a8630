"""The product's Postgres, for assets and sensors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import dagster as dg
from pydantic import Field

from txwatch.store.database import Connection, connect, process_pool

APPLICATION = "txwatch dagster"


class DatabaseResource(dg.ConfigurableResource):
    """Connections. The URL comes from the environment, so that the UI shows the variable's name and not its secret."""

    url: str = Field(repr=False, description="postgresql:// URL of the product's database.")

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection of the process's pool for the block. Raises psycopg.OperationalError when the server is away."""
        return process_pool(self.url, application=APPLICATION).connection()

    @contextmanager
    def connect_several(self, count: int) -> Iterator[list[Connection]]:
        """So many connections for the block, all but one beside the pool. Raises psycopg.OperationalError as well."""
        with self.connect() as first, ExitStack() as others:
            beside = [others.enter_context(connect(self.url, application=APPLICATION)) for _ in range(count - 1)]
            yield [first, *beside]
