"""A real Bitcoin node on regtest: found, started, spoken to, killed."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.waiting import wait_until
from txwatch.sources.bitcoin_rpc import BitcoinRpc
from txwatch.sources.source import SourceAwayError

PROJECT = Path(__file__).parents[2]
BITCOIND = os.environ.get("TXWATCH_BITCOIND") or shutil.which("bitcoind") or PROJECT / ".node" / "bitcoind"
"""The node's program, by TXWATCH_BITCOIND, on the PATH, or where `make node` puts it."""
HAS_NODE = Path(BITCOIND).is_file()
NO_NODE = "there is no Bitcoin node: `make node` fetches one"


@cache
def has_option(name: str) -> bool:
    """Whether this node's program knows an option: Bitcoin Knots has some that Bitcoin Core has not."""
    said = subprocess.run([str(BITCOIND), "-help", "-help-debug"], capture_output=True, text=True, check=False)
    return f"-{name}" in said.stdout


USER, PASSWORD = "tester", "secret"
MINER = "miner"


@dataclass
class Node:
    """A node with a wallet whose coins are mature. Its folder outlives it."""

    folder: Path
    options: tuple[str, ...] = ()
    rpc_port: int = field(default_factory=free_port)
    zmq_port: int = field(default_factory=free_port)
    p2p_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def rpc_url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.rpc_port}"

    @property
    def zmq_url(self) -> str:
        return f"tcp://127.0.0.1:{self.zmq_port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                str(BITCOIND),
                "-regtest",
                f"-datadir={self.folder}",
                f"-rpcport={self.rpc_port}",
                f"-rpcuser={USER}",
                f"-rpcpassword={PASSWORD}",
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                "-server",
                "-discover=0",
                "-listenonion=0",
                "-dnsseed=0",
                f"-bind=127.0.0.1:{self.p2p_port}",
                "-dbcache=16",
                "-fallbackfee=0.0001",
                "-printtoconsole=0",
                f"-zmqpubrawtx={self.zmq_url}",
                f"-zmqpubsequence={self.zmq_url}",
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(
            lambda: self.process is None or self.process.poll() is not None or self.answers(), "the node answers"
        )
        assert self.process.poll() is None, "the node ended at once: its options do not go together"

    def answers(self) -> bool:
        try:
            self.call("getblockchaininfo")
        except SourceAwayError:
            return False
        return True

    def call(self, method: str, *params: object, wallet: str | None = None) -> Any:
        """What it answers to one call, also where that is nothing."""
        rpc = BitcoinRpc(self.rpc_url + (f"/wallet/{wallet}" if wallet else ""))
        try:
            answers = rpc.batch(Any, method, [params])
        finally:
            rpc.close()
        return answers[0]

    def must(self, method: str, *params: object, wallet: str | None = None) -> Any:
        """The same, where an answer is due: raises RpcError with the node's words if it refuses."""
        rpc = BitcoinRpc(self.rpc_url + (f"/wallet/{wallet}" if wallet else ""))
        try:
            return rpc.call(Any, method, *params)
        finally:
            rpc.close()

    def wallet(self, method: str, *params: object) -> Any:
        """A call of the miner's wallet."""
        return self.must(method, *params, wallet=MINER)

    def make_rich(self, blocks: int = 120) -> None:
        """A wallet with `blocks - 100` mature coins of 50 BTC."""
        self.must("createwallet", MINER)
        self.mine(blocks)

    def mine(self, blocks: int = 1) -> list[str]:
        """Mine blocks to the wallet. Returns their hashes."""
        return list(self.must("generatetoaddress", blocks, self.wallet("getnewaddress")))

    def pay(self, amount: float, *, address: str | None = None, **options: object) -> str:
        """Pay an address, by default a new one of the wallet's own. Returns the txid."""
        sent = self.must(
            "send",
            {address or self.wallet("getnewaddress"): amount},
            None,
            "unset",
            None,
            options,
            wallet=MINER,
        )
        return str(sent["txid"])

    def mempool(self) -> dict[str, Any]:
        """Its mempool by txid, as getmempoolentry has each."""
        return dict(self.must("getrawmempool", True))

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None
