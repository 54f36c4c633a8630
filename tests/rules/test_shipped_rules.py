"""The rules that come with txwatch: each finds its case, and leaves what only resembles it."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.builders import T0, coin, spending
from txwatch.detection.rules import default_detectors
from txwatch.detection.score import find_by_rules, window_of
from txwatch.features.context import Context, NetworkContext
from txwatch.labels.label import Label, known_by_address
from txwatch.labels.store import KnownAddresses
from txwatch.rules.commands import read_rule_file, shipped_names
from txwatch.rules.evaluate import RuleSet, Traffic, kinds_of
from txwatch.rules.look_ups import LookUps
from txwatch.rules.parse import parse_rule
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
TIP = 840_000
YEAR = 52_596
"""Blocks."""
BY_THIEF, BY_OTHERS = "aa" * 32, "bb" * 32
KNOWN = known_by_address(
    [
        Label("kraken", "explorer", "Kraken", "exchange"),
        Label("acme-hot", "book", "Acme", "exchange"),
        Label("acme-cold", "book", "Acme", "exchange"),
        Label("mixer", "book", "Tumbler", "mixing_service"),
        Label("shop", "book", "Shop", "service"),
        Label("fund", "book", "Fund", "unknown"),
        Label("fund-2", "book", "Fund", "unknown"),
    ]
)
LOOK_UPS = LookUps(
    labels_of=lambda addresses: {address: KNOWN[address] for address in addresses if address in KNOWN},
    watched_of=lambda addresses: [address for address in addresses if address == "thief"],
    payers_of=lambda txids: {
        txid: ["thief", "someone"] if txid == BY_THIEF else ["somebody"]
        for txid in txids
        if txid in (BY_THIEF, BY_OTHERS)
    },
    price_of=lambda _: 50_000.0,
)
DETECTORS = default_detectors(whale_btc=500, known=KnownAddresses({"thief": ""}, LOOK_UPS.labels_of))


def move(
    btc: float,
    sender: str = "someone",
    receiver: str = "another",
    *,
    to: Sequence[tuple[str, float]] = (),
    back: float = 0.0,
    fee: float = 0.00001,
    parents: Sequence[str] = (BY_OTHERS,),
    years: float | None = 0.1,
    vsize: int = 141,
    **changes: Any,
) -> Transaction:
    """Amounts in BTC; `back` returns to the sender. The coins are of `parents`, and this many years old."""
    pays = [(receiver, btc), *to] if btc else list(to)
    pays = [(address, round(amount * BTC)) for address, amount in pays + ([(sender, back)] if back else [])]
    total = sum(sat for _, sat in pays) + round(fee * BTC)
    height = None if years is None else TIP - round(years * YEAR)
    each = [total // len(parents)] * (len(parents) - 1)
    values = [*each, total - sum(each)]
    coins = [
        coin(parent, n, value, addr=sender, height=height)
        for n, (parent, value) in enumerate(zip(parents, values, strict=True))
    ]
    return spending(f"{1:064x}", *coins, pays=pays, vsize=vsize, tip_height=TIP, **changes)


def matches(name: str, tx: Transaction) -> bool:
    rules = RuleSet([parse_rule(read_rule_file(name))])
    network = NetworkContext(T0, 1, tx_count_1h=10_000, median_fee_rate_1h=15.0, median_fee_rate_24h=15.0)
    window = window_of([tx], Context(network))
    scores = find_by_rules(window, DETECTORS)
    judged = rules.judge(Traffic(window.batch, window.features, kinds_of(scores)), LOOK_UPS)
    assert judged.failed == {}
    return bool(judged.matches)


CASES = {
    "large-into-exchange": move(200, "someone", "kraken"),
    "large-out-of-exchange": move(200, "acme-hot", "someone"),
    "dormant-coins-by-age": move(20, years=7.1),
    "high-fee": move(1, fee=0.1, vsize=200),
    "watched-one-hop": move(0.2, parents=[BY_THIEF]),
    "unknown-counterparty": move(100, "fund", "stranger"),
}
MANY = [BY_OTHERS] * 30
LOOK_ALIKES = {
    "large-into-exchange": [
        move(199.99, "someone", "kraken"),
        move(200, "acme-hot", "acme-cold"),
        move(200, "acme-hot", "kraken"),
        move(200, "kraken", "someone"),
        move(200, "kraken", "kraken"),
        move(200, "someone", "another"),
        move(200, "someone", "shop"),
        move(200, "someone", "mixer"),
        move(200, "someone", "fund"),
        move(300, "someone", "another", to=[("kraken", 0.001)]),
        move(300, "someone", "another", to=[("kraken", 33)]),
        move(0.001, "someone", "kraken", back=500),
        move(150, "someone", "kraken", back=900),
        move(20, "someone", "kraken", back=200),
        move(0, to=[("kraken", 20), ("acme-hot", 20), ("another", 5)]),
        move(0, to=[(f"paid{n}", 20) for n in range(12)]),
        move(500, "someone", "someone"),
        move(500, "fund", "fund-2"),
        move(1, "someone", "kraken", fee=250),
        move(199, "mixer", "kraken", back=1),
    ],
    "large-out-of-exchange": [
        move(199.99, "acme-hot", "someone"),
        move(200, "acme-hot", "acme-cold"),
        move(200, "acme-hot", "kraken"),
        move(200, "someone", "acme-hot"),
        move(200, "acme-hot", "acme-hot"),
        move(200, "someone", "another"),
        move(200, "shop", "someone"),
        move(200, "mixer", "someone"),
        move(200, "fund", "someone"),
        move(1, "acme-hot", "someone", back=900),
        move(150, "acme-hot", "someone", back=900),
        move(150, "acme-hot", "someone", to=[("acme-cold", 500)]),
        move(0.5, "acme-hot", "someone", to=[("acme-cold", 500)]),
        move(0, "acme-hot", to=[(f"paid{n}", 1) for n in range(12)]),
        move(0, "acme-hot", to=[("kraken", 150), ("acme-cold", 100)]),
        move(250, "acme-hot", "kraken", to=[("someone", 0.1)]),
        move(250, "acme-hot", "acme-cold", parents=MANY),
        move(20, "kraken", "acme-cold", fee=250),
        move(200, "thief", "someone"),
        move(199, "kraken", "mixer"),
    ],
    "dormant-coins-by-age": [
        move(20, years=6.99),
        move(20, years=None),
        move(4.99, years=14),
        move(0.5, years=14),
        move(0.0001, years=15),
        move(20, "acme-hot", "acme-cold", years=9),
        move(20, "fund", "fund-2", years=9),
        move(20, "someone", "someone", years=9),
        move(1, years=9, back=0.2),
        move(3, years=9, back=800),
        move(600, years=1),
        move(600, years=0.01),
        move(600, years=5),
        move(600, years=None),
        move(20, years=9, parents=MANY),
        move(2, years=14, parents=[BY_OTHERS] * 3),
        move(20, years=6.5, fee=1),
        move(0, to=[(f"paid{n}", 0.3) for n in range(12)], years=8),
        move(6, years=3, back=6),
        move(5, years=0.0, parents=[BY_THIEF]),
    ],
    "high-fee": [
        move(1, fee=0.0999, vsize=200),
        move(1, fee=0.05, vsize=200),
        move(1, fee=0.01, vsize=200),
        move(1, fee=0.00001, vsize=100),
        move(1, fee=0.1, vsize=250_000),
        move(1, fee=0.9, vsize=2_000_000),
        move(0, to=[("one", 100)], fee=0.5, parents=MANY, vsize=3_000),
        move(0, to=[("one", 100)], fee=0.1, parents=MANY, vsize=2_500),
        move(0, to=[("one", 0.2)], fee=0.11, parents=MANY, vsize=2_500),
        move(0.001, fee=0.0009, vsize=111),
        move(0.00001, fee=0.09, vsize=100),
        move(900, fee=0.02, vsize=140),
        move(900, fee=0.0999999, vsize=140),
        move(900, "acme-hot", "someone", fee=0.05),
        move(900, fee=0.0, vsize=140),
        move(0, to=[(f"paid{n}", 1) for n in range(40)], fee=0.08, vsize=1_500),
        move(0, to=[(f"paid{n}", 1) for n in range(400)], fee=0.099, vsize=15_000),
        spending(f"{1:064x}", coin(BY_OTHERS, 0, 3 * BTC), pays=[("x", BTC)], fee_sat=None, input_sat=None, vsize=200),
        move(0.1, fee=0.06, vsize=90),
        move(1, fee=0.1, vsize=300_000, parents=[BY_THIEF]),
    ],
    "watched-one-hop": [
        move(0.2),
        move(0.2, "thief"),
        move(0.2, "thief", parents=[BY_THIEF]),
        move(0.2, "someone", "thief"),
        move(0.099, parents=[BY_THIEF]),
        move(0.00001, parents=[BY_THIEF]),
        move(0.05, parents=[BY_THIEF], back=0.04),
        move(0.2, parents=["cc" * 32]),
        move(5, parents=["dd" * 32, "ee" * 32]),
        move(500, "acme-hot", "kraken"),
        move(500, "thief", "kraken"),
        move(0.2, "acme-hot", "acme-cold", parents=[BY_THIEF]),
        move(0.2, "fund", "fund-2", parents=[BY_THIEF]),
        move(0.2, "thief", "thief", parents=[BY_THIEF]),
        move(0.2, "thief", "someone", parents=[BY_THIEF, BY_OTHERS]),
        move(0.2, "someone", "thief", parents=[BY_OTHERS, BY_OTHERS]),
        move(900, years=9),
        move(0.2, "mixer", "someone"),
        move(0, to=[(f"paid{n}", 1) for n in range(12)]),
        move(20, "kraken", "thief"),
    ],
    "unknown-counterparty": [
        move(99.99, "fund", "stranger"),
        move(100, "someone", "stranger"),
        move(100, "fund", "kraken"),
        move(100, "fund", "fund-2"),
        move(100, "fund", "fund"),
        move(100, "fund", "mixer"),
        move(100, "fund", "shop"),
        move(100, "someone", "fund"),
        move(100, "someone", "kraken"),
        move(100, "acme-hot", "acme-cold"),
        move(100, "acme-hot", "kraken"),
        move(100, "acme-hot", "stranger", to=[("kraken", 1)]),
        move(100, "acme-hot", "stranger", to=[("acme-cold", 400)]),
        move(40, "fund", "stranger", back=900),
        move(1, "fund", "stranger", back=99),
        move(0, "acme-hot", to=[(f"paid{n}", 20) for n in range(12)]),
        move(0, "acme-hot", to=[(f"paid{n}", 100) for n in range(40)]),
        move(1, "fund", "stranger", fee=200),
        move(100, "thief", "stranger"),
        move(0, "fund", to=[("stranger", 500)], parents=MANY),
    ],
}  # fmt: skip


def test_all_are_there_named_as_their_files_off_and_with_cases() -> None:
    assert shipped_names() == sorted(CASES) == sorted(LOOK_ALIKES)
    for name in shipped_names():
        rule = parse_rule(read_rule_file(name))
        assert (rule.name, rule.mode) == (name, "off")
        assert len(LOOK_ALIKES[name]) == 20


@pytest.mark.parametrize("name", CASES)
def test_each_finds_its_case(name: str) -> None:
    assert matches(name, CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_each_leaves_what_resembles_its_case(name: str) -> None:
    assert [n for n, tx in enumerate(LOOK_ALIKES[name]) if matches(name, tx)] == []
