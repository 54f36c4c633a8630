"""Workers follow real nodes here, on the real event loop."""

from tests.sources.conftest import anyio_backend as anyio_backend
from tests.sources.conftest import fresh as fresh
from tests.sources.conftest import patient as patient
