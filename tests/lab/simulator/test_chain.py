"""The local chain takes what was served into blocks by fee rate, and shows it over REST."""

import json
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest

from tests.builders import T0, numbered_utx, pay, spend, utx
from txwatch.lab.simulator.chain import FIRST_HEIGHT, MAX_BLOCK_WEIGHT, Block, Chain
from txwatch.lab.simulator.feed import RestApi
from txwatch.wire.messages import BlockAnnouncement, decode

SECOND = timedelta(seconds=1)
DAY_MS = int(T0.timestamp() * 1000)


def chain(**options: Any) -> Chain:
    return Chain(**({"seed": 1, "start": T0} | options))


def paying(n: int, fee_sat: int, **changes: Any) -> bytes:
    """Transaction n with this fee."""
    return numbered_utx(n, out=[pay(10_740 - fee_sat)], **changes)


def heavy(n: int, fee_sat: int) -> bytes:
    """Transaction n, which takes more than half of a block."""
    script = "00" * 600_000
    return paying(n, fee_sat, inputs=[spend(script=script)], size=600_090)


def names(block: Block) -> list[int]:
    return [int(txid, 16) for txid in block.txids]


def test_a_block_takes_the_highest_fee_rates_first_and_unknown_fees_last() -> None:
    it = chain()
    for message in (
        paying(1, 100),
        paying(2, 900),
        numbered_utx(3, inputs=[spend(None)]),
        paying(4, 500),
        paying(5, 500),
    ):
        assert it.served(message, T0) is not None
    block = it.mine(T0 + SECOND)
    assert names(block) == [2, 4, 5, 1, 3]
    assert (block.height, block.n_tx, it.waiting) == (FIRST_HEIGHT, 5, 0)
    assert names(it.mine(T0 + 2 * SECOND)) == [], "nothing is mined twice"


def test_a_block_holds_no_more_than_its_weight_and_the_rest_waits() -> None:
    it = chain()
    for message in (heavy(1, 9_000), heavy(2, 8_000), paying(3, 100)):
        it.served(message, T0)
    first, second = it.mine(T0), it.mine(T0 + SECOND)
    assert names(first) == [3, 1]
    assert names(second) == [2]
    assert first.weight <= MAX_BLOCK_WEIGHT
    assert second.prev_block == first.hash


def test_malformed_messages_and_known_txids_are_not_taken() -> None:
    it = chain()
    assert it.served(utx(size=3), T0) is None
    assert it.served(b"{", T0) is None
    it.served(paying(1, 100), T0)
    it.served(paying(1, 5_000), T0)
    assert it.waiting == 1
    it.mine(T0)
    it.served(paying(1, 100), T0)
    assert it.waiting == 0


def test_a_full_mempool_drops_the_lowest_fee_rate() -> None:
    it = chain(kept_waiting=3)
    for n, fee_sat in enumerate((300, 100, 200, 400), start=1):
        it.served(paying(n, fee_sat), T0)
    assert names(it.mine(T0)) == [4, 1, 3]


def test_blocks_come_every_ten_minutes_on_average_and_the_same_for_the_same_seed() -> None:
    def mined() -> list[tuple[str, int]]:
        it = chain()
        blocks = [it.mine(it.next_block_at) for _ in range(1_000)]
        return [(block.hash, block.time) for block in blocks]

    blocks = mined()
    intervals = np.diff([time for _, time in blocks])
    assert intervals.mean() == pytest.approx(600, rel=0.1)
    assert intervals.std() == pytest.approx(600, rel=0.15), "intervals are exponential"
    assert mined() == blocks
    assert chain(seed=2).mine(T0).hash != blocks[0][0]
    it = chain()
    assert not it.due(it.next_block_at - SECOND)
    assert it.due(it.next_block_at)


def test_an_announcement_is_what_the_program_reads() -> None:
    it = chain()
    it.served(paying(1, 100), T0)
    block = it.mine(T0)
    message = decode(block.announcement())
    assert isinstance(message, BlockAnnouncement)
    assert (message.x.hash, message.x.height, message.x.n_tx) == (block.hash, FIRST_HEIGHT, 1)
    assert len(block.hash) == 64
    assert b"0" * 63 + b"1" not in block.announcement(), "it names no transactions"


class Rest:
    """Asks a RestApi at a moment that the test sets."""

    def __init__(self, it: Chain, interval_seconds: float = 0.0) -> None:
        self.now = T0
        self._api = RestApi(it, lambda: self.now, interval_seconds)

    def get(self, target: str) -> tuple[int, Any]:
        response = self._api.answer(target)
        return response.status_code, json.loads(response.body)


def test_the_blocks_of_a_utc_day_are_listed_from_the_newest() -> None:
    it = chain()
    for hours in (1, 2, 11, 13):  # the start is noon
        it.mine(T0 + timedelta(hours=hours))
    status, listed = Rest(it).get(f"/blocks/{DAY_MS}?format=json")
    assert status == HTTPStatus.OK
    assert [b["height"] - FIRST_HEIGHT for b in listed] == [2, 1, 0]
    assert set(listed[0]) == {"hash", "height", "time", "block_index"}
    assert [b["height"] - FIRST_HEIGHT for b in Rest(it).get(f"/blocks/{DAY_MS + 86_400_000}")[1]] == [3]
    assert Rest(it).get(f"/blocks/{DAY_MS - 86_400_000}") == (HTTPStatus.OK, [])


def test_a_whole_block_carries_its_transactions_and_each_is_found_by_txid() -> None:
    it = chain()
    it.served(paying(1, 100), T0)
    rest = Rest(it)
    body = json.loads(paying(1, 100))["x"]
    assert rest.get(f"/rawtx/{1:064x}") == (HTTPStatus.OK, body), "while it waits"
    block = it.mine(T0)
    status, raw = rest.get(f"/rawblock/{block.hash}")
    assert status == HTTPStatus.OK
    assert (raw["hash"], raw["n_tx"], raw["tx"]) == (block.hash, 1, [body])
    assert rest.get(f"/rawtx/{1:064x}?format=json") == (HTTPStatus.OK, body), "and once it is mined"


def test_bodies_of_old_blocks_are_dropped_and_their_summaries_kept() -> None:
    it = chain(kept_blocks=2)
    it.served(paying(1, 100), T0)
    blocks = [it.mine(T0 + n * SECOND) for n in range(3)]
    rest = Rest(it)
    assert rest.get(f"/rawblock/{blocks[0].hash}")[0] == HTTPStatus.NOT_FOUND
    assert rest.get(f"/rawtx/{1:064x}")[0] == HTTPStatus.NOT_FOUND
    assert len(rest.get(f"/blocks/{DAY_MS}")[1]) == 3


@pytest.mark.parametrize("target", ["/", "/blocks/yesterday", f"/blocks/{10**30}", "/rawblock/ff", "/rawtx/", "/a/b/c"])
def test_what_is_not_there_is_404_as_json(target: str) -> None:
    status, body = Rest(chain()).get(target)
    assert status == HTTPStatus.NOT_FOUND
    assert body["error"] == "Not Found"


def test_requests_too_close_together_get_429() -> None:
    rest = Rest(chain(), interval_seconds=10.0)
    target = f"/blocks/{DAY_MS}"
    assert rest.get(target)[0] == HTTPStatus.OK
    rest.now += 9 * SECOND
    assert rest.get(target)[0] == HTTPStatus.TOO_MANY_REQUESTS
    rest.now += SECOND
    assert rest.get(target)[0] == HTTPStatus.OK, "a refused request does not count"
