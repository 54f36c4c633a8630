"""The demo's nodes: prepared once, supervised with what spends their coins, and gone when the demo is."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from tests.databases import copied_database
from tests.sources.node import bitcoind, needs_node
from tests.waiting import wait_until
from txwatch.lab.regtest.node import MATURE_BLOCKS, NodeProgramError, RegtestNode
from txwatch.lab.regtest.planted import read_accounts
from txwatch.store.database import connect
from txwatch.system.environment import is_free
from txwatch.system.processes import beside, supervise, txwatch_command
from txwatch.system.regtest import DemoNodes


@needs_node
def test_they_are_followed_and_spent_from_and_leave_nothing_running(server_url: str, tmp_path: Path) -> None:
    url = copied_database(server_url, "template_txwatch")
    nodes = DemoNodes.under(tmp_path / "regtest", Path(bitcoind() or ""))
    nodes.prepare(tmp_path / "logs")
    environment = {
        **os.environ,
        **nodes.settings,
        "TXWATCH_HOME": str(tmp_path),
        "DATABASE_URL": url,
        "TXWATCH_SOURCES": "bitcoin-core",
    }

    def watch(ended: threading.Event) -> None:
        def told_of_some() -> bool:
            facts = nodes.planted.read(without_last=timedelta(seconds=1))
            with connect(url) as connection:
                told = read_accounts(connection, facts)["transactions"].told
            return ended.is_set() or told >= 5

        wait_until(told_of_some, "what is spent is told")
        assert not ended.is_set()

    commands = {**nodes.commands(seed=1), "worker": txwatch_command("ingest")}
    assert supervise(commands, environment, tmp_path / "logs", watch) == 0
    for node in (nodes.first, nodes.second):
        assert is_free(node.rpc_port)
        assert is_free(node.peers_port)
        assert node.password not in " ".join(node.command())
    assert "went away" not in (tmp_path / "logs" / "spender.log").read_text()
    with connect(url) as connection:
        accounts = nodes.accounts(connection)
    assert accounts["transactions"].keys() == {"planted", "told"}


@needs_node
def test_a_second_start_goes_on_with_the_same_chain(tmp_path: Path) -> None:
    folder, program = tmp_path / "regtest", Path(bitcoind() or "")
    DemoNodes.under(folder, program).prepare(tmp_path / "logs")
    again = DemoNodes.under(folder, program)
    again.planted.path.write_text("of the first start")
    again.prepare(tmp_path / "logs")
    assert again.planted.read() == []
    with beside(again.second.command(), os.environ, tmp_path / "logs" / "node-2.log"):
        node = RegtestNode(again.second.rpc_url, again.second.peers_port)
        wait_until(node.answers, "it answers")
        assert node.height() == MATURE_BLOCKS + 1
        node.close()


@pytest.mark.parametrize("program", ["/bin/true", "/nowhere/bitcoind", "/bin/sh"])
def test_what_is_no_bitcoind_is_named(tmp_path: Path, program: str) -> None:
    nodes = DemoNodes.under(tmp_path / "regtest", Path(program))
    with pytest.raises(NodeProgramError, match=program):
        nodes.prepare(tmp_path / "logs")
