"""Rules on a batch as arrays: as a slow and plain reading of the tree says, asking for as little as possible."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0, coin, spending
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.features.batch import TransactionBatch
from txwatch.features.contract import FEATURE_NAMES
from txwatch.labels.flows import flow_of
from txwatch.labels.label import Known, Label, known_by_address
from txwatch.rules.evaluate import MOST_CELLS, Match, RuleSet, Traffic
from txwatch.rules.look_ups import LookUps
from txwatch.rules.matches import _recordable
from txwatch.rules.parse import comparison
from txwatch.rules.rule import AllOf, AnyOf, Flows, Found, Labelled, Not, Number, Rule, ToldBy, Tree
from txwatch.wire.transaction import Transaction

BTC = 100_000_000
KNOWN = known_by_address(
    [
        Label("kraken", "explorer", "Kraken", "exchange"),
        Label("acme", "book", "Acme Ltd.", "exchange"),
        Label("mixer", "book", "Tumbler", "mixing_service"),
    ]
)
PARENT = "aa" * 32
PAYMENTS = [
    ("someone", "kraken"),
    ("acme", "another"),
    ("acme", "kraken"),
    ("mixer", "another"),
    ("someone", "another"),
    ("thief", "kraken"),
]
TRANSACTIONS = [
    spending(f"{i:064x}", coin(PARENT, i, (i + 1) * BTC, addr=source), pays=[(target, (i + 1) * BTC - 1_000)])
    for i, (source, target) in enumerate(PAYMENTS)
]


def look_ups(asked: list[Any] | None = None, price: float | None = 50_000.0) -> LookUps:
    notes: list[Any] = [] if asked is None else asked

    def labels_of(addresses: Iterable[str]) -> Mapping[str, Known]:
        wanted = sorted(addresses)
        notes.append(wanted)
        return {address: KNOWN[address] for address in wanted if address in KNOWN}

    def watched_of(addresses: Collection[str]) -> Collection[str]:
        return [address for address in addresses if address == "thief"]

    def payers_of(txids: Collection[str]) -> Mapping[str, Collection[str]]:
        return {txid: ["mixer", "thief"] for txid in txids if txid == PARENT}

    def sources_of(txids: Collection[str]) -> Mapping[str, str]:
        return {txid: "bitcoin-core" for txid in txids if int(txid, 16) % 2}

    return LookUps(labels_of, watched_of, payers_of, sources_of, lambda _: price)


@cache
def traffic() -> Traffic:
    batch = TransactionBatch.of(TRANSACTIONS)
    features = np.full((len(batch), len(FEATURE_NAMES)), np.nan)
    features[:, FEATURE_NAMES.index("moved_sat")] = batch.value_sat
    features[:, FEATURE_NAMES.index("fee_sat")] = batch.fee_sat
    features[:3, FEATURE_NAMES.index("fee_rate")] = [1, 10, 100]
    features[:3, FEATURE_NAMES.index("fee_share")] = np.float32([0.1, 0.7, 0.9])
    kinds = {"whale": np.array([True, False] * 3), "forest": np.array([False, False, True] * 2)}
    return Traffic(batch, features, kinds)


def rule(*comparisons: str, name: str = "mine", version: int = 0) -> Rule:
    return Rule(name, "Mine", Severity.low, AllOf(tuple(map(comparison, comparisons))), version=version)


def matched(*rules: Rule, asked: list[Any] | None = None, price: float | None = 50_000.0) -> list[int]:
    judged = RuleSet(rules).judge(traffic(), look_ups(asked, price))
    assert judged.failed == {}
    return [match.row for match in judged.matches]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("moved_sat > 2 BTC", [2, 3, 4, 5]),
        ("moved_sat between 2 BTC and 4 BTC", [2, 3]),
        ("fee_rate >= 10", [1, 2]),
        ("fee_rate < 1000", [0, 1, 2]),
        ("fee_rate != 10", [0, 2]),
        ("fee_share >= 0.7", [1, 2]),
        ("fee_share > 0.7", [2]),
        ("fee_share = 70 %", [1]),
        ("fee_share <= 0.1", [0]),
        ("vsize > 0", []),
        ("moved_sat > 100,000 USD", [2, 3, 4, 5]),
        ("kind = whale", [0, 2, 4]),
        ("kind in forest, coinjoin", [2, 5]),
        ("kind != whale", [1, 3, 5]),
        ("flow = exchange_in", [0, 5]),
        ("flow in exchange_out, exchange_to_exchange", [1, 2]),
        ("source = bitcoin-core", [1, 3, 5]),
        ("sender matches label known", [1, 2, 3]),
        ("sender matches label category exchange", [1, 2]),
        ("receiver matches label entity kraken", [0, 2, 5]),
        ("sender matches label entity Acme*", [1, 2]),
        ("sender matches label source BOOK", [1, 2, 3]),
        ("sender matches label watched", [5]),
        ("receiver matches label watched", []),
        ("payer matches label watched", [0, 1, 2, 3, 4, 5]),
        ("payer matches label category mixing*", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_each_comparison(text: str, rows: list[int]) -> None:
    assert matched(rule(text)) == rows


def test_without_a_price_a_comparison_in_usd_is_false() -> None:
    assert matched(rule("moved_sat > 1 USD"), price=None) == []
    assert matched(rule("moved_sat < 1,000,000,000 USD"), price=None) == []


def test_labels_are_asked_once_for_all_rules_and_only_where_they_decide() -> None:
    asked: list[Any] = []
    rules = [
        rule("moved_sat > 5 BTC", "flow = exchange_in", name="a"),
        rule("moved_sat > 4 BTC", "receiver matches label known", name="b"),
        rule("moved_sat > 900 BTC", "receiver matches label known", name="c"),
    ]
    assert matched(*rules, asked=asked) == [5, 5]
    assert asked == [["another", "kraken", "someone", "thief"]]


def test_nothing_is_asked_where_labels_cannot_decide() -> None:
    asked: list[Any] = []
    either = Rule("x", "X", Severity.low, AnyOf((comparison("moved_sat > 0 BTC"), comparison("flow = exchange_in"))))
    assert matched(rule("moved_sat > 900 BTC", "flow = exchange_in"), either, asked=asked) == [0, 1, 2, 3, 4, 5]
    assert asked == []


def test_the_reason_names_what_was_true_by_what_value() -> None:
    mine = rule("moved_sat >= 100,000 USD", "flow = exchange_in", "fee_sat < 1 BTC", "kind != whale", version=3)
    [match] = RuleSet([mine]).judge(traffic(), look_ups()).matches
    assert (match.txid, match.seen_at, match.reason.kind) == (TRANSACTIONS[5].txid, T0, "rule:mine")
    assert match.reason.text == (
        "Mine: 6.00 BTC likely moved (>= 100,000 USD at 50,000 USD); from unknown to Kraken (labels: explorer);"
        " fee of 1,000 sat (< 1 BTC) (rule mine, version 3)"
    )
    assert (match.reason.feature, match.reason.value) == ("moved_sat", float(6 * BTC - 1_000))
    [named, *_] = RuleSet([rule("payer matches label category mixing*")]).judge(traffic(), look_ups()).matches
    assert named.reason.text == "Mine: one hop after Tumbler (book)"


def test_a_rule_that_cannot_be_followed_is_named_and_holds_up_no_other() -> None:
    broken = Rule("broken", "Broken", Severity.low, AllOf(()))
    rules = RuleSet([rule("moved_sat > 5 BTC", name="whole"), broken])
    judged = rules.judge(traffic(), look_ups())
    assert [match.rule.name for match in judged.matches] == ["whole"]
    assert list(judged.failed) == ["broken"]


def slowly(tree: Tree, row: int) -> bool:
    """The tree as it reads, for one transaction."""
    tx, seen = TRANSACTIONS[row], look_ups()
    match tree:
        case AllOf(parts):
            return all(slowly(part, row) for part in parts)
        case AnyOf(parts):
            return any(slowly(part, row) for part in parts)
        case Not(part):
            return not slowly(part, row)
        case Number(feature, low, high, _, in_usd):
            value = float(traffic().features[row, FEATURE_NAMES.index(feature)])
            return low <= (value * 50_000 / BTC if in_usd else value) <= high
        case Found(kind):
            return bool(traffic().kinds[kind][row]) if kind in traffic().kinds else False
        case Flows(kind):
            return flow(tx) == kind
        case ToldBy(source):
            return seen.sources_of([tx.txid]).get(tx.txid) == source
    return labelled(tree, tx)


def flow(tx: Transaction) -> str:
    return flow_of([(c.addr, 0) for c in tx.inputs], [(c.addr, c.value) for c in tx.outputs], KNOWN).kind


def labelled(leaf: Labelled, tx: Transaction) -> bool:
    senders = {spent.addr for spent in tx.inputs}
    addresses = {
        "sender": senders,
        "receiver": {paid.addr for paid in tx.outputs} - senders,
        "payer": {"mixer", "thief"},
    }[leaf.party]
    if leaf.by == "watched":
        return "thief" in addresses
    return any(address in KNOWN and leaf.fits(KNOWN[address]) for address in addresses if address)


LEAVES: list[Tree] = [
    comparison(text)
    for text in (
        "moved_sat > 2 BTC",
        "moved_sat <= 4 BTC",
        "moved_sat between 120,000 USD and 270,000 USD",
        "fee_rate > 5",
        "fee_rate != 10",
        "kind = whale",
        "kind = forest",
        "flow = exchange_in",
        "flow = unknown",
        "source = bitcoin-core",
        "sender matches label known",
        "receiver matches label category exchange",
        "payer matches label watched",
        "sender matches label watched",
    )
]
TREES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple).map(AllOf)
        | st.lists(inner, min_size=1, max_size=3).map(tuple).map(AnyOf)
        | inner.map(Not)
    ),
    max_leaves=8,
)


@given(st.lists(TREES, min_size=1, max_size=4), st.sampled_from([1, 8, MOST_CELLS]))
def test_any_trees_match_what_they_say_one_row_at_a_time(trees: list[Tree], cells: int) -> None:
    """Whatever is looked at in one step."""
    rules = [Rule(f"r{i}", "R", Severity.low, tree) for i, tree in enumerate(trees)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("txwatch.rules.evaluate.MOST_CELLS", cells)
        judged = RuleSet(rules).judge(traffic(), look_ups())
    expected = {(rule.name, row) for rule in rules for row in range(len(TRANSACTIONS)) if slowly(rule.when, row)}
    assert {(match.rule.name, match.row) for match in judged.matches} == expected
    assert len(judged.matches) == len(expected)
    assert judged.failed == {}


def test_of_a_backlog_the_first_of_each_hour_are_recorded_and_no_more_are_written() -> None:
    capped = replace(rule("vsize > 1"), alerts_per_hour=2)
    reason = Reason(capped.kind, "Mine")
    at = [T0 + timedelta(seconds=20 * n) for n in range(300)]
    matches = [Match(capped, n, f"{n:064x}", seen_at, reason) for n, seen_at in enumerate(at)]
    kept = _recordable(matches[::-1])
    assert [match.row for match in kept] == [*range(102), *range(180, 282)], "180 of one hour, 120 of the next"


def test_no_rules_and_no_transactions_are_nothing() -> None:
    assert RuleSet([]).judge(traffic(), look_ups()).matches == []
    nobody = Traffic(TransactionBatch.of([]), np.empty((0, len(FEATURE_NAMES))))
    assert RuleSet([rule("moved_sat > 1 USD")]).judge(nobody, look_ups()).matches == []
