"""What is done with coins of two real nodes is what a worker that follows them is told."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ingest.following import query
from tests.sources.node import Node, needs_node, running_node
from tests.sources.watching import watching
from tests.waiting import wait_until
from txwatch.clock import utc_now
from txwatch.detection.rules import CurrentDetectors
from txwatch.ingest.node_blocks import node_blocks
from txwatch.ingest.recovery import read_chain
from txwatch.lab.regtest.planted import DoubleSpent, Fact, PlantedFile, Replaced, read_accounts
from txwatch.lab.regtest.traffic import HELD_SECONDS, RegtestTraffic
from txwatch.live.lane import LiveScoring
from txwatch.store.database import connect

pytestmark = pytest.mark.anyio


class Waits(threading.Event):
    """Waits no time but where a double spend is held: there for its alert."""

    def __init__(self, alerted: Callable[[], bool]) -> None:
        super().__init__()
        self._alerted = alerted

    def wait(self, timeout: float | None = None) -> bool:
        if timeout == HELD_SECONDS:
            wait_until(self._alerted, "the double spend is alerted")
        return super().wait(0.01)


@needs_node
async def test_all_that_is_planted_is_told(fresh: str, tmp_path: Path) -> None:
    planted = PlantedFile(tmp_path / "planted.jsonl")

    def alerted() -> bool:
        spent_twice = sum(isinstance(fact, DoubleSpent) for fact in planted.read())
        with connect(fresh) as connection:
            return read_accounts(connection, planted.read())["double_spends"].told == spent_twice > 0

    with running_node(tmp_path / "first") as first:
        second = Node(tmp_path / "second")
        try:
            second.start()
            scoring = LiveScoring(lambda: None, CurrentDetectors(500))
            first.join(second)
            wait_until(lambda: first.tip() == second.tip(), "they have one chain")
            async with watching(fresh, tmp_path / "spool", first, second, hook=scoring):
                traffic = RegtestTraffic(first, second, seed=1, note=planted.append, stop=Waits(alerted))
                await asyncio.to_thread(traffic.play, 2)
                facts = planted.read()
                await asyncio.to_thread(wait_until, lambda: all_but_confirmations_told(fresh, facts), "all is told")
            with connect(fresh) as connection, node_blocks(first.rpc_url) as source:
                assert not read_chain(connection, source, utc_now).failures
                accounts = read_accounts(connection, facts)
        finally:
            second.stop()
    assert {kind: account.told for kind, account in accounts.items()} == {
        kind: account.planted for kind, account in accounts.items()
    }
    assert accounts["redirected"].told == accounts["double_spends"].told == accounts["reorganised_blocks"].told == 2
    assert min(account.told for account in accounts.values()) > 0
    assert query(fresh, "SELECT count(*) FROM alerts WHERE 'fee_accident' = ANY(kinds)") == [(0,)]
    assert query(fresh, "SELECT count(*) FROM alerts WHERE 'double_spend' = ANY(kinds)") == [(2,)], "each once"


def all_but_confirmations_told(database_url: str, facts: list[Fact]) -> bool:
    with connect(database_url) as connection:
        accounts = read_accounts(connection, facts)
    return all(one.told == one.planted for kind, one in accounts.items() if kind != "confirmations")


def test_what_is_not_told_is_not_counted(fresh: str, tmp_path: Path) -> None:
    planted = PlantedFile(tmp_path / "planted.jsonl")
    assert planted.read() == []
    for fact in (Replaced("a", "b", redirected=True), DoubleSpent("c", "d")):
        planted.append(fact)
    with connect(fresh) as connection:
        accounts = read_accounts(connection, planted.read())
    assert {kind: (one.planted, one.told) for kind, one in accounts.items() if one.planted} == {
        "replacements": (1, 0),
        "redirected": (1, 0),
        "double_spends": (1, 0),
    }
