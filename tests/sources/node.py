"""A real Bitcoin node on regtest for tests: where it is found, and how it is started, killed and asked."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".node"
"""Where `make node` puts it."""
WALLET = "miner"


@cache
def bitcoind() -> str | None:
    """The program: that of TXWATCH_BITCOIND, of PATH, or of `make node`."""
    for given in (os.environ.get("TXWATCH_BITCOIND"), shutil.which("bitcoind"), str(FOLDER / "bitcoind")):
        if given and os.access(given, os.X_OK) and Path(given).is_file():
            return given
    return None


@cache
def version() -> str:
    """What the program says of itself."""
    return subprocess.check_output([bitcoind() or "", "-version"], text=True).splitlines()[0]


NO_NODE = "there is no bitcoind, `make node` fetches one"
needs_node = pytest.mark.skipif(bitcoind() is None, reason=NO_NODE)


class RefusedError(Exception):
    """The node refused a call."""


class Node:
    """A node of its own folder and ports. `options` are added to its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port, self.rpc_port, self.zmq_port = free_port(), free_port(), free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    @property
    def rpc_url(self) -> str:
        return f"http://watcher:pass%20word@127.0.0.1:{self.rpc_port}"

    @property
    def zmq_url(self) -> str:
        return f"tcp://127.0.0.1:{self.zmq_port}"

    def start(self, *options: str) -> "Node":
        """Start it, and wait until it answers."""
        program = bitcoind()
        assert program is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            program,
            f"-datadir={self.folder}",
            "-regtest",
            "-server",
            f"-bind=127.0.0.1:{self.port}",
            f"-rpcport={self.rpc_port}",
            "-rpcuser=watcher",
            "-rpcpassword=pass word",
            "-dnsseed=0",
            "-discover=0",
            "-listenonion=0",
            "-fallbackfee=0.0001",
            "-dbcache=16",
            "-keypool=10",
            # Data of any size, as from version 30 on.
            "-acceptnonstdtxn=1",
            "-maxtxfee=100",
            "-debuglogfile=0",
            # Knots relays no transaction of version 3 without a fee of its own, unless it is told to.
            *(["-mempooltruc=enforce"] if "Knots" in version() else []),
            *(f"-zmqpub{topic}={self.zmq_url}" for topic in ("rawtx", "sequence")),
            *self._options,
            *options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self._client is not None:
            self._client.close()
        self._client = httpx.Client(auth=("watcher", "pass word"), timeout=120, trust_env=False)
        wait_until(self._answers, "the node answers", 120)
        if WALLET not in self.call("listwallets"):
            existing = {one["name"] for one in self.call("listwalletdir")["wallets"]}
            self.call("loadwallet" if WALLET in existing else "createwallet", WALLET)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the node ended"
        with suppress(httpx.HTTPError, RefusedError):
            self.call("getblockcount")
            return True
        return False

    def call(self, method: str, *params: object, wallet: str = "") -> Any:
        """What it answers, with amounts as Decimal. Raises RefusedError."""
        assert self._client is not None
        # The wallet's own calls need its address; the others answer there too, once it is loaded.
        path = f"/wallet/{wallet}" if wallet else ""
        request = {"method": method, "params": params, "id": 1}
        answer = self._client.post(f"http://127.0.0.1:{self.rpc_port}{path}", json=request)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise RefusedError("unauthorized")
        told = answer.json()
        if not isinstance(told, dict) or told.get("error"):
            raise RefusedError(f"{method}: {told}")
        return json.loads(answer.content, parse_float=Decimal)["result"]

    def wallet(self, method: str, *params: object) -> Any:
        """What its wallet answers."""
        return self.call(method, *params, wallet=WALLET)

    def address(self, kind: str = "bech32") -> str:
        """A new address of its wallet."""
        address: str = self.wallet("getnewaddress", "", kind)
        return address

    def mine(self, blocks: int = 1) -> list[str]:
        """Mine blocks. Returns their hashes."""
        hashes: list[str] = self.call("generatetoaddress", blocks, self.address())
        return hashes

    def mature(self) -> "Node":
        """Mine until it has coins of several blocks to spend, and write that to disk: a kill leaves it there."""
        self.mine(120)
        self.call("gettxoutsetinfo")
        return self

    def send(self, outputs: Sequence[dict[str, object]] | None = None, **options: object) -> str:
        """Send to these outputs, else to itself. Returns the txid."""
        to = outputs or [{self.address(): "0.01"}]
        txid: str = self.wallet("send", to, None, "unset", options.pop("fee_rate", 5), options)["txid"]
        return txid

    def spend(
        self, inputs: Sequence[tuple[str, int]], outputs: object, *, version: int | None = None, sequence: int = 0
    ) -> str:
        """A signed transaction, in hex, with exactly these inputs and outputs."""
        spent = [{"txid": txid, "vout": vout, "sequence": sequence or 0xFFFFFFFD} for txid, vout in inputs]
        raw: str = self.call("createrawtransaction", spent, outputs)
        if version is not None:
            raw = version.to_bytes(4, "little").hex() + raw[8:]
        return str(self.wallet("signrawtransactionwithwallet", raw)["hex"])

    def broadcast(self, raw: str) -> str:
        """Send a transaction, whatever its fee and its data. Returns the txid."""
        txid: str = self.call("sendrawtransaction", raw, 0, 21_000_000)
        return txid

    def coin(self, least: str = "1") -> tuple[tuple[str, int], Decimal]:
        """A confirmed coin of its wallet of at least so many BTC, and its amount; it is locked."""
        for coin in self.wallet("listunspent", 1, 9_999_999, [], True, {"minimumAmount": least}):
            self.wallet("lockunspent", False, [{"txid": coin["txid"], "vout": coin["vout"]}])
            return (coin["txid"], coin["vout"]), coin["amount"]
        raise AssertionError("no such coin")

    def split(self, count: int, amount: str) -> list[tuple[str, int]]:
        """Send one transaction that makes so many coins of this amount. Returns their outpoints."""
        coin, held = self.coin()
        rest = held - count * Decimal(amount) - Decimal("0.01")
        pays = [{self.address(): amount} for _ in range(count)]
        txid = self.broadcast(self.spend([coin], [*pays, {self.address(): str(rest)}]))
        coins = [(txid, n) for n in range(count)]
        self.wallet("lockunspent", False, [{"txid": txid, "vout": n} for txid, n in coins])
        return coins

    def kill(self) -> None:
        """End it by SIGKILL: nothing is written any more."""
        assert self._process is not None
        # A script that starts it with a loader of its own becomes it.
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._client is not None:
            self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(120)


@contextmanager
def running_node(folder: Path, *options: str) -> Iterator[Node]:
    """A node with coins, for the block."""
    node = Node(folder, *options)
    try:
        yield node.start().mature()
    finally:
        node.stop()
