"""Spends coins of two nodes of one regtest chain: all that can become of a transaction, again and again.

`python -m txwatch.lab.regtest.traffic` does it for the nodes of BITCOIN_RPC_URL once they are followed, until SIGTERM.
Each fact is written down before it is done, or as soon as the node has said it.
"""

import argparse
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from math import inf
from pathlib import Path
from time import monotonic

from txwatch.clock import utc_now
from txwatch.lab.regtest.node import RefusedError, RegtestNode
from txwatch.lab.regtest.planted import NODES, DoubleSpent, Fact, Mined, PlantedFile, Replaced, Sent, Unmined
from txwatch.settings import Settings
from txwatch.sources.chosen import ChosenSources
from txwatch.store.database import connect, scalar
from txwatch.wire.raw import Outpoint, decode_raw

COIN_BTC = Decimal("0.5")
PAID_BTC = Decimal("0.2")
"""Above what a replacement must take from somebody to be told."""
FEE_BTC, HIGHER_BTC = Decimal("0.00002"), Decimal("0.00010")
"""Of a payment of some 150 vB: 13 and 67 sat/vB."""
COINS, FEW_COINS = 90, 30
HELD_SECONDS = 30.0
"""Until a block settles a double spend: it is taken for one after ten, and another worker may take over meanwhile."""
LOOK_SECONDS = 0.1
RELAYED_SECONDS, JOINED_SECONDS = 30.0, 5.0
"""Nodes tell each other of transactions every few seconds, and of their blocks at once."""
SPEND_PAUSE = (0.2, 0.8)


class StoppedError(Exception):
    """Somebody asked for the end."""


class RegtestTraffic:
    """What is spent: the same seed makes the same choices. `note` takes each fact; `stop` ends `play`."""

    def __init__(
        self,
        first: RegtestNode,
        second: RegtestNode,
        *,
        seed: int,
        note: Callable[[Fact], None],
        stop: threading.Event,
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        self._first, self._second = first, second
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable
        self._note = note
        self._stop = stop
        self._held_seconds = held_seconds

    def play(self, rounds: float = inf) -> None:
        """Play so many rounds of all scenes, each in another order, or until `stop` is set. Raises RefusedError."""
        scenes = [
            self.chain,
            self.child_pays,
            self.replace,
            self.replace_and_redirect,
            self.double_spend,
            self.reorganise,
        ]
        played = 0
        try:
            self._join()
            while played < rounds:
                self._provide()
                for scene in self._random.sample(scenes, len(scenes)):
                    self.payments()
                    scene()
                self._mine(self._first)
                played += 1
        except StoppedError:
            return

    def payments(self) -> None:
        """Some payments that nothing happens to."""
        for _ in range(self._random.randint(2, 5)):
            self._pay(self._coin(), self._payee(), FEE_BTC * self._random.randint(1, 3))

    def chain(self) -> None:
        """A chain of transactions of which each spends the change of the one before."""
        coin, left = self._coin(), COIN_BTC
        parents: list[str] = []
        for _ in range(self._random.randint(4, 9)):
            left -= FEE_BTC + Decimal("0.01")
            pays = [{self._first.address(): str(left)}, {self._payee(): "0.01"}]
            txid = self._send(self._first, [coin], pays, parents)
            coin, parents = (txid, 0), [txid]

    def child_pays(self) -> None:
        """A parent for the least fee, and a child that pays for both."""
        parent = self._pay(self._coin(), self._first.address(), Decimal("0.000002"))
        left = PAID_BTC - 3 * HIGHER_BTC
        self._send(self._first, [(parent, 1)], [{self._payee(): str(left)}], [parent])

    def replace(self) -> None:
        """A payment that is sent again for a higher fee, to the same receiver."""
        coin, payee = self._coin(), self._payee()
        before = self._pay(coin, payee, FEE_BTC)
        self._note(Replaced(before, self._pay(coin, payee, HIGHER_BTC)))

    def replace_and_redirect(self) -> None:
        """A payment that is taken back by another spend of its coin."""
        coin = self._coin()
        before = self._pay(coin, self._payee(), FEE_BTC)
        back = [{self._first.address(): str(COIN_BTC - HIGHER_BTC)}]
        self._note(Replaced(before, self._send(self._first, [coin], back), redirected=True))

    def double_spend(self) -> None:
        """One coin is paid to somebody on each of two parted nodes; the block of one of them settles it."""
        coin = self._coin()
        self._part()
        one = self._pay(coin, self._payee(), FEE_BTC)
        back = [{self._first.address(): str(COIN_BTC - HIGHER_BTC)}]
        other = self._send(self._second, [coin], back)
        self._note(DoubleSpent(one, other))
        self._wait(self._held_seconds)
        wins = self._random.random() < 0.5
        self._mine(self._first if wins else self._second)
        self._note(Replaced(other, one) if wins else Replaced(one, other))
        self._join()

    def reorganise(self) -> None:
        """Two parted nodes mine, and the longer branch leaves the block of the other out of the chain."""
        self._part()
        self.payments()
        lost = self._mine(self._first)
        self._wait(self._random.uniform(*SPEND_PAUSE))
        for _ in range(2):
            self._mine(self._second)
        self._join()
        self._note(Unmined(lost))
        self._mine(self._first)

    def _provide(self) -> None:
        """Make coins, while there are few."""
        given = {"minimumAmount": str(COIN_BTC), "maximumAmount": str(COIN_BTC)}
        if len(self._first.wallet("listunspent", 1, 9_999_999, [], True, given)) < FEW_COINS:
            coins = self._first.split(COINS, str(COIN_BTC))
            self._note(Sent(coins[0][0]))
            self._first.wallet("lockunspent", True, [{"txid": txid, "vout": n} for txid, n in coins])
            self._mine(self._first)

    def _coin(self) -> Outpoint:
        return self._first.coin(str(COIN_BTC), str(COIN_BTC))[0]

    def _payee(self) -> str:
        """A new address of the second node's wallet, of another type than change."""
        return self._second.address("bech32m")

    def _pay(self, coin: Outpoint, to: str, fee: Decimal) -> str:
        change = {self._first.address(): str(COIN_BTC - PAID_BTC - fee)}
        return self._send(self._first, [coin], [change, {to: str(PAID_BTC)}])

    def _send(
        self, node: RegtestNode, coins: Sequence[Outpoint], pays: Sequence[dict[str, str]], parents: Sequence[str] = ()
    ) -> str:
        """Send what the first node signs, by this node, after a pause. Returns the txid."""
        self._wait(self._random.uniform(*SPEND_PAUSE))
        raw = self._first.spend(coins, pays)
        txid = decode_raw(bytes.fromhex(raw)).txid
        self._note(Sent(txid, tuple(parents)))
        return node.broadcast(raw)

    def _mine(self, node: RegtestNode) -> str:
        (block_hash,) = node.mine()
        self._note(Mined(block_hash, tuple(node.txids(block_hash))))
        return block_hash

    def _part(self) -> None:
        # So that nothing is held by one alone but what comes now.
        self._until(lambda: self._first.mempool() == self._second.mempool(), RELAYED_SECONDS)
        self._first.part()
        self._until(lambda: self._first.is_alone and self._second.is_alone)

    def _join(self) -> None:
        while not self._are_one():
            self._first.join(self._second)
            self._until(self._are_one, JOINED_SECONDS)

    def _are_one(self) -> bool:
        return not self._first.is_alone and self._first.tip() == self._second.tip()

    def _until(self, holds: Callable[[], bool], at_most: float = inf) -> None:
        until = monotonic() + at_most
        while not holds() and monotonic() < until:
            self._wait(LOOK_SECONDS)

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError


def await_followed(database_url: str, nodes: int, since: datetime, stop: threading.Event) -> None:
    """Wait until so many nodes are heard by a worker: what happened before is not told."""
    heard = "SELECT count(*) FROM feed_sources WHERE connected AND noted_at >= %(since)s AND source LIKE %(nodes)s"
    with connect(database_url, application="txwatch regtest") as connection:
        while scalar(connection, heard, {"since": since, "nodes": NODES}) < nodes and not stop.wait(LOOK_SECONDS):
            pass


def main() -> int:
    """Play until a signal. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m txwatch.lab.regtest.traffic")
    parser.add_argument("--peers-ports", required=True, help="where the nodes reach each other, in their order")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--planted", type=Path, required=True, help="append what is done to this file")
    given = parser.parse_args()
    settings, stop, since = Settings(), threading.Event(), utc_now()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    ports = map(int, given.peers_ports.split(","))
    first, second = (
        RegtestNode(url, port) for url, port in zip(ChosenSources.of(settings).rpc_urls, ports, strict=True)
    )
    await_followed(settings.require_database_url(), 2, since, stop)
    try:
        first.open_wallet()
        second.open_wallet()
        RegtestTraffic(first, second, seed=given.seed, note=PlantedFile(given.planted).append, stop=stop).play()
    except RefusedError as error:
        if stop.is_set():
            return 0
        print(f"The nodes went away: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
