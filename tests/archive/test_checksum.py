"""The checksum tells any two contents apart, whatever the order of their rows, and is the same in every version."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from txwatch.archive.checksum import content, content_of
from txwatch.archive.datasets import TRANSACTIONS

COIN = {"addr": "bc1q", "value": 5, "type": "p2wpkh", "n": 0}
ROW = {
    "txid": "ab" * 32,
    "seen_at": datetime(2024, 3, 14, tzinfo=UTC),
    "value_sat": 2_099_999_997_690_000,
    "fee_sat": None,
    "rbf": True,
    "inputs": [COIN | {"txid": None, "height": 7, "coinbase": False}],
    "outputs": [COIN, COIN | {"n": 1}],
    "source": "feed",
}


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), TRANSACTIONS.schema)


def test_it_is_that_of_every_version_so_far() -> None:
    """A manifest of years ago is compared with it."""
    assert content_of(table(ROW)).checksum == "c67f33c36db6fbbb"


@pytest.mark.parametrize(
    "changes",
    [
        {"txid": "ab" * 31 + "ac"},
        {"value_sat": 2_099_999_997_690_001},
        {"fee_sat": 0},
        {"rbf": False},
        {"rbf": None},
        {"source": ""},
        {"source": None},
        {"inputs": []},
        {"inputs": None},
        {"inputs": [COIN | {"height": 7, "coinbase": None}]},
        {"inputs": [COIN | {"height": None, "coinbase": False}]},
        {"outputs": [COIN | {"n": 1}, COIN]},
        {"outputs": [COIN, COIN | {"n": 1}, COIN]},
        {"outputs": [COIN | {"addr": None}, COIN | {"n": 1}]},
        {"outputs": [COIN | {"value": 6}, COIN | {"n": 1}]},
        {"input_sat": 2_099_999_997_690_000, "value_sat": None},
    ],
    ids=str,
)
def test_any_change_is_seen(changes: dict[str, object]) -> None:
    assert content_of(table(ROW | changes)) != content_of(table(ROW))


def test_order_and_parts_do_not_matter_and_a_row_too_many_does() -> None:
    other = ROW | {"txid": "cd" * 32, "inputs": []}
    together = content_of(table(ROW, other))
    assert content_of(table(other, ROW)) == together
    assert content([table(ROW), table(other)]) == together
    assert content([table(ROW, other).slice(1), table(ROW)]) == together
    assert content_of(table(ROW, other, other)) != together
    assert content_of(table(ROW, ROW)) != content_of(table(other, other))
    assert content([]).rows == 0


def test_unknown_is_not_null_and_one_nan_is_as_good_as_another() -> None:
    def of(*values: float | None) -> str:
        return content_of(pa.table({"x": pa.array(values, pa.float64())})).checksum

    strange = pa.array([0xFFF8000000000001], pa.uint64()).view(pa.float64())
    assert content_of(pa.table({"x": strange})).checksum == of(float("nan"))
    assert len({of(None), of(float("nan")), of(0.0), of(-0.0), of(0.1 + 0.2), of(0.3)}) == 6
