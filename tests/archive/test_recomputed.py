"""Features computed again from archived transactions are those of the window lane, to the last digit."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from tests.archive.filled import drop_all
from tests.archive.test_query import give_up
from tests.archive.traffic import BEFORE, DAY, MIDNIGHT, archive_all, land
from tests.builders import coin, spending
from txwatch.archive.manifest import Archive
from txwatch.archive.windows import recomputed_windows
from txwatch.clock import WINDOW, context_window, window_range
from txwatch.features.addresses import read_address_context
from txwatch.features.context import AddressActivity
from txwatch.features.network import read_network_context
from txwatch.features.store import read_features
from txwatch.store.database import Connection
from txwatch.store.transactions import land_transactions


def test_they_are_the_lanes_over_more_than_a_day_hot_and_given_up(connection: Connection, archive: Archive) -> None:
    """What leaves the trailing day leaves it in the same window."""
    windows = land(connection, timedelta(hours=2), timedelta(hours=24, minutes=30), rate=0.04)
    span = windows[-9], windows[-1] + WINDOW
    stored = {window: read_features(connection, window) for window in windows[-9:]}
    networks = {window: read_network_context(connection, context_window(window)) for window in stored}
    after = MIDNIGHT.date() + timedelta(days=1)

    def compare() -> None:
        found = list(recomputed_windows(connection, archive, *span))
        assert [window.start for window in found] == [window for window in stored if len(stored[window].batch)]
        for window in found:
            known = networks[window.start]
            assert window.context.network == replace(known, publication=0)
            assert window.context.network.windows_24h == 288
            np.testing.assert_array_equal(window.features, stored[window.start].features, strict=True)

    compare()
    archive_all(connection, archive, BEFORE, DAY, after)
    for day in (BEFORE, DAY, after):
        give_up(connection, day)
    compare()


def test_what_addresses_did_is_what_the_lane_sums(connection: Connection, archive: Archive) -> None:
    windows = land(connection, timedelta(minutes=30), timedelta(minutes=30))
    last = windows[-1]
    network = read_network_context(connection, context_window(last))
    (window,) = recomputed_windows(connection, archive, last, last + WINDOW)
    lane = read_address_context(connection, network, window.batch.input_addresses())
    assert len(lane) > 20
    assert window.context.addresses == lane
    first, *_ = recomputed_windows(connection, archive, windows[0], windows[0] + WINDOW)
    assert first.context.network.version == 0
    np.testing.assert_array_equal(first.features, read_features(connection, windows[0]).features, strict=True)


def test_hostile_amounts_stop_at_what_a_bigint_holds(connection: Connection, archive: Archive) -> None:
    drop_all(connection)
    most, half = 2**63 - 1, 2**62
    start = MIDNIGHT
    transactions = [
        spending(f"{n:064x}", coin(f"{100 + n:064x}", value=half, addr="rich"), pays=[("rich", half)],
                 seen_at=start + timedelta(seconds=n))
        for n in range(3)
    ]  # fmt: skip
    later = window_range(start, start + 3 * WINDOW)[-1]
    transactions.append(
        spending(
            "ff" * 32, coin("ee" * 32, value=5, addr="rich"), pays=[("b", 4)], seen_at=later + timedelta(seconds=1)
        )
    )
    with connection.transaction():
        land_transactions(connection, transactions)
    (window,) = recomputed_windows(connection, archive, later, later + WINDOW)
    assert window.context.addresses == {
        "rich": AddressActivity(3, most, most, transactions[0].seen_at, transactions[2].seen_at)
    }


def test_of_nothing_there_is_nothing(connection: Connection, archive: Archive) -> None:
    assert list(recomputed_windows(connection, archive, MIDNIGHT, MIDNIGHT + timedelta(hours=1))) == []
