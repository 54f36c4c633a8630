"""A real Bitcoin node on regtest for tests: where it is found, and how it is started, killed and asked."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.lab.regtest.node import Installed, RegtestNode

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".node"
"""Where `make node` puts it."""


@cache
def bitcoind() -> str | None:
    """The program: that of TXWATCH_BITCOIND, of PATH, or of `make node`."""
    for given in (os.environ.get("TXWATCH_BITCOIND"), shutil.which("bitcoind"), str(FOLDER / "bitcoind")):
        if given and os.access(given, os.X_OK) and Path(given).is_file():
            return given
    return None


NO_NODE = "there is no bitcoind, `make node` fetches one"
needs_node = pytest.mark.skipif(bitcoind() is None, reason=NO_NODE)


class Node(RegtestNode):
    """A node of its own folder and ports. `options` are added to its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = bitcoind()
        assert program is not None
        self._installed = Installed(program, folder, "pass word", free_port(), free_port(), free_port())
        super().__init__(self._installed.rpc_url, self._installed.peers_port)
        self.rpc_url, self.zmq_url = self._installed.rpc_url, self._installed.zmq_url
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> "Node":
        """Start it, and wait until it answers."""
        self._installed.folder.mkdir(parents=True, exist_ok=True)
        command = self._installed.command(*self._options, *options)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.close()
        wait_until(self._runs_and_answers, "the node answers", 120)
        self.open_wallet()
        return self

    def _runs_and_answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the node ended"
        return self.answers()

    def send(self, outputs: Sequence[dict[str, object]] | None = None, **options: object) -> str:
        """Send to these outputs, else to itself. Returns the txid."""
        to = outputs or [{self.address(): "0.01"}]
        txid: str = self.wallet("send", to, None, "unset", options.pop("fee_rate", 5), options)["txid"]
        return txid

    def kill(self) -> None:
        """End it by SIGKILL: nothing is written any more."""
        assert self._process is not None
        # A script that starts it with a loader of its own becomes it.
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, and wait for that."""
        self.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(120)


@contextmanager
def running_node(folder: Path, *options: str) -> Iterator[Node]:
    """A node with coins, for the block."""
    node = Node(folder, *options)
    try:
        node.start().mature()
        yield node
    finally:
        node.stop()
