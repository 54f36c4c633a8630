"""What tests of running coroutines need: one event loop, the one that the program uses."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
