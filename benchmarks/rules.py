"""What fifty rules of users cost the live lane, in batches of 32.

Both lanes land the same kind of batches in turns, on one connection: features, detectors, forest, scores and alerts,
with the rules and without. A fifth of the addresses has a label, and half of the rules ask for labels.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Bench, Measurement
from benchmarks.models import trained
from tests.features.window_lane import materialize
from txwatch.clock import WINDOW, utc_now, window_start
from txwatch.detection.rules import CurrentDetectors
from txwatch.features.store import read_recent_features
from txwatch.lab.simulator.traffic import Simulator
from txwatch.labels.label import Label
from txwatch.labels.store import import_labels
from txwatch.live.lane import LiveScoring
from txwatch.rules.document import read_plain
from txwatch.rules.evaluate import RuleSet
from txwatch.rules.look_ups import LookUps
from txwatch.rules.store import add_rule
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.system.history import land_history
from txwatch.wire.transaction import Transaction

RULES = 50
BATCH = 32
BATCHES = 460
RATE = 50
MOST_COST = 0.2
"""Share of the rate without rules."""


def measure(bench: Bench) -> Iterator[Measurement]:
    """The rate with rules and without, and the share that they cost."""
    url = bench.database()
    end = window_start(utc_now())
    start = end - 6 * WINDOW
    land_history(url, Simulator("2024-03", seed=1, start=start), end)
    traffic = Simulator("2024-03", seed=2, start=end, rate=RATE).until(end + WINDOW)
    transactions = [simulated.transaction("feed") for simulated in traffic]
    with connect(url) as connection:
        with connection.transaction():
            materialize(connection, start, end)
            _know(connection, transactions)
        for number in range(RULES):
            add_rule(connection, read_plain(_rule(number)), "a measurement")
        model = trained(read_recent_features(connection, start))
        with_rules = LiveScoring(lambda: model, CurrentDetectors(500))
        without = LiveScoring(lambda: model, CurrentDetectors(500), rules=lambda _: (RuleSet([]), LookUps()))
        seconds = _in_turns(connection, (without, with_rules), transactions, bench.size(BATCHES))
        row = connection.execute("SELECT count(DISTINCT rule), count(*) FROM rule_matches").fetchone()
    plain, ruled = (BATCH / float(np.median(of)) for of in seconds)
    why = f"no rules; {row[1]:,} matches of {row[0]} rules" if row else ""
    yield Measurement("lane_without_rules", plain, "tx/s")
    yield Measurement("lane_with_50_rules", ruled, "tx/s", plain, why=why)
    yield Measurement(
        "cost_of_50_rules", 1 - ruled / plain, "share", at_most=MOST_COST, why="of the rate without rules"
    )


def _in_turns(
    connection: Connection, lanes: Sequence[LiveScoring], transactions: Sequence[Transaction], batches: int
) -> list[list[float]]:
    """Seconds of each batch by lane, the first tenth left out."""
    seconds: list[list[float]] = [[] for _ in lanes]
    for number in range(min(batches, len(transactions) // BATCH)):
        batch = transactions[number * BATCH : (number + 1) * BATCH]
        turn = number % len(lanes)
        began = time.perf_counter()
        with connection.transaction():
            land_transactions(connection, batch)
            lanes[turn].write(connection, batch)
        seconds[turn].append(time.perf_counter() - began)
    return [of[len(of) // 10 :] for of in seconds]


def _know(connection: Connection, transactions: Sequence[Transaction]) -> None:
    addresses = sorted({address for tx in transactions for address in tx.addresses})[::5]
    labels = [
        Label(address, "a measurement", f"Entity {n % 100}", "exchange" if n % 2 else "service")
        for n, address in enumerate(addresses)
    ]
    import_labels(connection, labels, utc_now())


def _rule(number: int) -> dict[str, Any]:
    """One of ten kinds of rules, each with bounds of its own, as people write them."""
    bounds = number // 10
    when: Sequence[Any] = (
        [f"moved_sat >= {50 + bounds} BTC", "flow = exchange_in"],
        [f"moved_sat >= {50 + bounds} BTC", "flow in exchange_out, exchange_to_exchange"],
        ["input_age_max_blocks >= 5 years", f"moved_sat >= {1 + bounds} BTC"],
        [f"fee_sat >= {1 + bounds} BTC", {"not": "kind in package, consolidation"}],
        ["payer matches label watched", f"value_sat >= {1 + bounds} BTC"],
        [f"moved_sat >= {20 + bounds} BTC", "sender matches label known", {"not": "receiver matches label known"}],
        [{"any": ["kind = whale", f"output_count >= {200 + bounds}"]}, f"fee_rate between 50 and {500 + bounds}"],
        [f"dust_outputs >= {20 + bounds}", {"not": "kind = coinjoin"}],
        [f"receiver matches label entity Entity {bounds}", f"moved_sat >= {5 + bounds} BTC"],
        [f"fee_rate_over_median_1h >= {20 + bounds}", "vsize <= 400", "rbf = 0"],
    )[number % 10]
    return {
        "name": f"rule-{number}",
        "text": f"Rule {number}",
        "severity": "low",
        "mode": "active",
        "alerts_per_hour": 20,
        "when": {"all": when},
    }
