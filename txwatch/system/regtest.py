"""The demo's Bitcoin nodes: two of one regtest chain, so that they can differ, in a folder of the demo's home."""

import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

from txwatch.lab.regtest.node import Installed, NodeProgramError, RegtestNode
from txwatch.lab.regtest.planted import PlantedFile, read_accounts
from txwatch.store.database import Connection
from txwatch.system.environment import free_port
from txwatch.system.processes import beside

FIRST, SECOND = "node", "node-2"
"""The names of their processes, folders and logs."""
START_SECONDS = 120.0
LOOK_SECONDS = 0.1
TOLD_WITHIN = timedelta(seconds=30)
"""Time after which what is done on the nodes is told, on a slow machine too: mostly it takes a second."""


@dataclass(frozen=True)
class DemoNodes:
    """Two nodes, and the file that says what is done with their coins."""

    first: Installed
    second: Installed
    planted: PlantedFile

    @classmethod
    def under(cls, folder: Path, program: Path) -> "DemoNodes":
        """Nodes that keep their chains in this folder; each start has ports and a password of its own."""
        folder = folder.resolve()
        first, second = (
            Installed(
                str(program.absolute()), folder / name, secrets.token_hex(16), free_port(), free_port(), free_port()
            )
            for name in (FIRST, SECOND)
        )
        return cls(first, second, PlantedFile(folder / "planted.jsonl"))

    def prepare(self, logs: Path) -> None:
        """Run both until they have a wallet each, one chain, and the first one coins. Raises NodeProgramError.

        While nobody follows them: a hundred empty blocks are no news.
        """
        self.planted.path.unlink(missing_ok=True)
        for installed in (self.first, self.second):
            installed.folder.mkdir(parents=True, exist_ok=True)
        with (
            beside(self.first.command(), os.environ, logs / f"{FIRST}.log"),
            beside(self.second.command(), os.environ, logs / f"{SECOND}.log"),
        ):
            first, second = (RegtestNode(one.rpc_url, one.peers_port) for one in (self.first, self.second))
            for node, name in ((first, FIRST), (second, SECOND)):
                _wait(node.answers, f"{self.first.program} does not answer; see {logs / name}.log")
                node.open_wallet()
            if first.height() == 0:
                first.mature()
            else:
                first.mine()  # a node whose newest block is a day old takes itself to be behind
            first.join(second)
            _wait(lambda: first.tip() == second.tip(), "the nodes have no common chain")
            first.close()
            second.close()

    def commands(self, seed: int) -> dict[str, list[str]]:
        """What runs, by name: both nodes, and what spends their coins."""
        ports = f"{self.first.peers_port},{self.second.peers_port}"
        options = [f"--peers-ports={ports}", f"--seed={seed}", f"--planted={self.planted.path}"]
        return {
            FIRST: self.first.command(),
            SECOND: self.second.command(),
            "spender": [sys.executable, "-m", "txwatch.lab.regtest.traffic", *options],
        }

    @property
    def settings(self) -> dict[str, str]:
        """By which they are followed."""
        nodes = (self.first, self.second)
        return {
            "BITCOIN_RPC_URL": ",".join(node.rpc_url for node in nodes),
            "BITCOIN_ZMQ_URL": ",".join(node.zmq_url for node in nodes),
        }

    def accounts(self, connection: Connection) -> dict[str, dict[str, int]]:
        """What was planted, but for the last TOLD_WITHIN of it, and what was told of it, by kind."""
        facts = self.planted.read(without_last=TOLD_WITHIN)
        return {kind: asdict(account) for kind, account in read_accounts(connection, facts).items()}


def _wait(holds: Callable[[], bool], otherwise: str) -> None:
    until = monotonic() + START_SECONDS
    while not holds():
        if monotonic() > until:
            raise NodeProgramError(otherwise)
        sleep(LOOK_SECONDS)
