"""A Bitcoin node on regtest, on loopback: how it is started, and asked to mine, to sign and to spend."""

import hmac
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any
from urllib.parse import quote

import httpx

from txwatch.errors import UserError
from txwatch.wire.raw import Outpoint

USER = "watcher"
WALLET = "miner"
ANSWER_SECONDS = 120.0
MATURE_BLOCKS = 120
"""A coinbase can be spent after 100 blocks: these make twenty coins of 50 BTC."""


class RefusedError(Exception):
    """The node refused a call, or does not answer it."""


class NodeProgramError(UserError):
    """A file that is no bitcoind."""


@cache
def version(program: str) -> str:
    """What a bitcoind says of itself. Raises NodeProgramError."""
    try:
        said = check_output([program, "-version"], text=True, stderr=DEVNULL, timeout=ANSWER_SECONDS)  # noqa: S603 - the user's own
    except (OSError, ValueError, SubprocessError) as error:
        raise NodeProgramError(f"{program} cannot be run as a bitcoind: {error}") from error
    if "daemon" not in (first := said.partition("\n")[0]).lower():
        raise NodeProgramError(f"{program} is no bitcoind: it says {first[:100]!r}")
    return first


@dataclass(frozen=True)
class Installed:
    """A node's program, folder, password, and ports of loopback: for other nodes, for calls, and what it publishes."""

    program: str
    folder: Path
    password: str = field(repr=False)
    peers_port: int
    rpc_port: int
    zmq_port: int

    @property
    def rpc_url(self) -> str:
        """With the password."""
        return f"http://{USER}:{quote(self.password)}@127.0.0.1:{self.rpc_port}"

    @property
    def zmq_url(self) -> str:
        return f"tcp://127.0.0.1:{self.zmq_port}"

    def command(self, *options: str) -> list[str]:
        """What starts it; without its password, which others could see there. Raises NodeProgramError."""
        salt = "5a17"
        digest = hmac.digest(salt.encode(), self.password.encode(), "sha256").hex()
        return [
            self.program,
            f"-datadir={self.folder}",
            "-regtest",
            "-server",
            f"-bind=127.0.0.1:{self.peers_port}",
            f"-rpcport={self.rpc_port}",
            f"-rpcauth={USER}:{salt}${digest}",
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
            *(["-mempooltruc=enforce"] if "Knots" in version(self.program) else []),
            *(f"-zmqpub{topic}={self.zmq_url}" for topic in ("rawtx", "sequence")),
            *options,
        ]


class RegtestNode:
    """The node at `rpc_url`, with a wallet; others reach it at `peers_port`. Amounts are in BTC, as it gives them."""

    def __init__(self, rpc_url: str, peers_port: int) -> None:
        self._url = httpx.URL(rpc_url).copy_with(userinfo=b"")
        self._auth = httpx.URL(rpc_url).username, httpx.URL(rpc_url).password
        self.peers_port = peers_port
        self._opened: httpx.Client | None = None

    def answers(self) -> bool:
        """Whether it takes calls."""
        with suppress(RefusedError):
            self.height()
            return True
        return False

    def open_wallet(self) -> None:
        """Load its wallet, or make it."""
        if WALLET not in self.call("listwallets"):
            existing = {one["name"] for one in self.call("listwalletdir")["wallets"]}
            self.call("loadwallet" if WALLET in existing else "createwallet", WALLET)

    def close(self) -> None:
        """Close the connections to it; the next call opens others."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def call(self, method: str, *params: object, wallet: str = "") -> Any:
        """What it answers, with amounts as Decimal. Raises RefusedError."""
        # The wallet's own calls need its address; the others answer there too, once it is loaded.
        url = self._url.copy_with(path=f"/wallet/{wallet}" if wallet else "/")
        if self._opened is None:
            self._opened = httpx.Client(auth=self._auth, timeout=ANSWER_SECONDS, trust_env=False)
        try:
            answer = self._opened.post(url, json={"method": method, "params": params, "id": 1})
        except httpx.HTTPError as error:
            raise RefusedError(f"{method}: {type(error).__name__}") from error
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

    def mature(self) -> None:
        """Mine until it has coins of several blocks to spend, and write that to disk: a kill leaves it there."""
        self.mine(MATURE_BLOCKS)
        self.call("gettxoutsetinfo")

    def height(self) -> int:
        """Of the highest block."""
        height: int = self.call("getblockcount")
        return height

    def tip(self) -> str:
        """The hash of the highest block."""
        best: str = self.call("getbestblockhash")
        return best

    def txids(self, block_hash: str) -> list[str]:
        """What a block holds beside its coinbase."""
        txids: list[str] = self.call("getblock", block_hash, 1)["tx"]
        return txids[1:]

    def mempool(self) -> set[str]:
        """The txids of its mempool."""
        return set(self.call("getrawmempool"))

    def spend(
        self, inputs: Sequence[Outpoint], outputs: object, *, version: int | None = None, sequence: int = 0
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

    def coin(self, least: str = "1", most: str = "50") -> tuple[Outpoint, Decimal]:
        """A confirmed coin of its wallet of so many BTC, and its amount; it is locked. Raises RefusedError."""
        asked = {"minimumAmount": least, "maximumAmount": most}
        for coin in self.wallet("listunspent", 1, 9_999_999, [], True, asked):
            self.wallet("lockunspent", False, [{"txid": coin["txid"], "vout": coin["vout"]}])
            return (coin["txid"], coin["vout"]), coin["amount"]
        raise RefusedError(f"its wallet has no confirmed coin of {least} to {most} BTC")

    def split(self, count: int, amount: str) -> list[Outpoint]:
        """Send one transaction that makes so many coins of this amount. Returns their outpoints; they are locked."""
        coin, held = self.coin()
        rest = held - count * Decimal(amount) - Decimal("0.01")
        pays = [{self.address(): amount} for _ in range(count)]
        txid = self.broadcast(self.spend([coin], [*pays, {self.address(): str(rest)}]))
        coins = [(txid, n) for n in range(count)]
        self.wallet("lockunspent", False, [{"txid": txid, "vout": n} for txid, n in coins])
        return coins

    def join(self, other: "RegtestNode") -> None:
        """Ask it to connect to another node, which takes a moment."""
        self.call("addnode", f"127.0.0.1:{other.peers_port}", "onetry")

    def part(self) -> None:
        """End its connections to other nodes, which takes a moment."""
        for peer in self.call("getpeerinfo"):
            with suppress(RefusedError):
                self.call("disconnectnode", "", peer["id"])

    @property
    def is_alone(self) -> bool:
        """Whether no other node is connected to it."""
        return not self.call("getpeerinfo")
