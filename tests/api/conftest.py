"""One server for all tests of the API that need no settings of their own."""

from collections.abc import Iterator

import httpx
import pytest

from tests.populated import WHALE_BTC, Populated
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture(scope="session")
def address(populated: Populated) -> Iterator[str]:
    """The API with a key."""
    with serving(settings_of(populated.database_url, populated.home, TXWATCH_WHALE_BTC=WHALE_BTC)) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A client without the key."""
    with httpx.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
def keyed(address: str) -> Iterator[httpx.Client]:
    """A client with the key."""
    with httpx.Client(base_url=address, timeout=PATIENCE_SECONDS, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client
