"""Blocks from a Bitcoin node, with every coin that their transactions spend; a pruned node has the newest only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec

from txwatch.ingest.rest import BlockSource, RestError
from txwatch.sources.bitcoin_node import BitcoinNode, Description, Header, MinedInput, spent_coin
from txwatch.sources.bitcoin_rpc import BitcoinRpc, RpcError
from txwatch.sources.source import SourceAwayError
from txwatch.wire.blocks import MOST_OF_A_BLOCK, ListedBlock, MinedBlock, require_distinct
from txwatch.wire.messages import MalformedMessageError
from txwatch.wire.raw import Coin, decode_raw, from_raw

_OP_RETURN = b"\x6a"
_HEADERS_AT_ONCE = 200
_NOT_THERE = {-5, -1}
"""A node's codes for a block that it does not know, and for one that it has pruned or not got yet."""
_CLOCKS_DIFFER = timedelta(hours=2)
"""Time by which miners' clocks may be ahead: blocks of a day stand among those of the hours around it."""


class _Transaction(msgspec.Struct):
    hex: str
    vin: list[MinedInput]


class _Block(Header):
    """The answer to `getblock` with verbosity 3."""

    tx: Annotated[list[_Transaction], MOST_OF_A_BLOCK] = msgspec.field(default_factory=list)


class NodeBlocks:
    """The blocks of a node's chain, like those of a BlockSource."""

    def __init__(self, node: BitcoinNode) -> None:
        self._node = node
        self._described: Description | None = None
        self._listed: list[ListedBlock] = []

    def blocks_of(self, day: date) -> list[ListedBlock]:
        """The blocks of a day, UTC. Raises RestError."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        try:
            self._list_from(start - _CLOCKS_DIFFER)
        except SourceAwayError as error:
            raise RestError(str(error)) from error
        end = start + timedelta(days=1)
        return [block for block in self._listed if start.timestamp() <= block.time < end.timestamp()]

    def _list_from(self, moment: datetime) -> None:
        """List the blocks from the tip down to one of before a moment; those listed before are not asked for again."""
        if not self._listed:
            tip = self._node.tip()
            self._listed.append(ListedBlock(tip.hash, tip.height, tip.time))
        while (lowest := self._listed[-1]).time >= moment.timestamp() and lowest.height > 0:
            heights = range(lowest.height - 1, max(-1, lowest.height - 1 - _HEADERS_AT_ONCE), -1)
            headers = self._node.headers(heights)
            if not headers:
                return
            if headers[-1].height >= lowest.height:
                # The list would have no end.
                raise RestError(f"the node gives a block of height {headers[-1].height:,} for a lower one")
            self._listed += [ListedBlock(header.hash, header.height, header.time) for header in headers]

    def block(self, block_hash: str) -> MinedBlock | None:
        """A whole block, None if the node has none of this hash, or has it no more.

        Its transactions are as they were before it. Raises RestError, or MalformedMessageError.
        """
        try:
            if self._described is None:
                self._described = self._node.describe()
            block = self._node.rpc.call(_Block, "getblock", block_hash, 3)
        except RpcError as error:
            if error.code in _NOT_THERE:
                return None
            raise RestError(str(error)) from error
        except SourceAwayError as error:
            raise RestError(str(error)) from error
        if block.hash != block_hash:
            raise MalformedMessageError(f"asked for, and got block {block.hash}")
        if block.tx_count != len(block.tx):
            raise MalformedMessageError(f"no block: nTx says {block.tx_count}, transactions are {len(block.tx)}")
        described = self._described
        mined = MinedBlock(
            hash=block.hash,
            prev_block=block.previous or "0" * 64,
            height=block.height,
            time=block.time,
            n_tx=block.tx_count,
            transactions=[],
            data_bytes={},
            network=described.health.network,
        )
        seen_at = datetime.fromtimestamp(block.time, UTC)
        for tx in block.tx[1:]:
            try:
                raw = decode_raw(bytes.fromhex(tx.hex))
                coins = _coins(tx, block.height)
                mined.transactions.append(from_raw(raw, coins, seen_at, block.height - 1, described.network, "block"))
            except ValueError as error:
                mined.malformed.append((str(error), tx.hex.encode(errors="replace")))
                continue
            mined.data_bytes[raw.txid] = sum(
                len(output.script) for output in raw.outputs if output.script.startswith(_OP_RETURN)
            )
        require_distinct(mined)
        return mined


class NodeElseRest:
    """The blocks of a node; over REST those that it does not have: it may be pruned, behind, or of another network."""

    def __init__(self, node: NodeBlocks, rest: BlockSource) -> None:
        self._node, self._rest = node, rest

    def blocks_of(self, day: date) -> list[ListedBlock]:
        """The blocks of a day, UTC, that either lists. Raises RestError or MalformedMessageError if neither can."""
        listed: list[ListedBlock] = []
        failures: list[RestError | MalformedMessageError] = []
        for source in (self._node, self._rest):
            try:
                listed += source.blocks_of(day)
            except (RestError, MalformedMessageError) as error:
                failures.append(error)
        if len(failures) == 2:
            raise failures[0]
        return listed

    def block(self, block_hash: str) -> MinedBlock | None:
        """A whole block, None if neither has one of this hash. Raises RestError, or MalformedMessageError."""
        failure: RestError | MalformedMessageError | None = None
        try:
            block = self._node.block(block_hash)
        except (RestError, MalformedMessageError) as error:
            block, failure = None, error
        block = block or self._rest.block(block_hash)
        if block is None and failure is not None:
            raise failure  # the node may have it
        return block


def _coins(tx: _Transaction, height: int) -> list[Coin | None]:
    return [spent_coin(spent.prevout, height) for spent in tx.vin]


@contextmanager
def node_blocks(rpc_url: str) -> Iterator[NodeBlocks]:
    """The blocks of the node at an address, for the length of the `with` block. Raises RpcUrlError."""
    rpc = BitcoinRpc(rpc_url)
    try:
        yield NodeBlocks(BitcoinNode(rpc))
    finally:
        rpc.close()
