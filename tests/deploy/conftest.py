"""The table of what `make deploy-test` has tried."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Record:
    """What was built, started, killed and checked, with the time that it took; and what could not be tried, and why."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    @contextmanager
    def __call__(self, verb: str, what: str) -> Iterator[None]:
        began = time.monotonic()
        outcome = "failed"
        try:
            yield
            outcome = "well"
        finally:
            self.rows.append((verb, what, f"{outcome}, {time.monotonic() - began:.0f} s"))

    def skipped(self, what: str, why: str) -> None:
        """Note what cannot be tried on this machine."""
        self.rows.append(("not tried", what, why))


RECORD = pytest.StashKey[Record]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORD] = Record()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """To it tests of deployments tell what they have tried."""
    return request.config.stash[RECORD]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, if there is one."""
    if rows := config.stash[RECORD].rows:
        terminalreporter.section("what was tried")
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for verb, what, outcome in rows:
            terminalreporter.line(f"{verb:<{widths[0]}}  {what:<{widths[1]}}  {outcome}")
