import pytest

from txwatch.detection.kinds import KINDS, alerting
from txwatch.detection.known_cases import incidents, look_alikes
from txwatch.detection.reasons import Reason
from txwatch.detection.rules import default_detectors
from txwatch.features.contract import FEATURE_NAMES
from txwatch.system.environment import PROJECT

EXPECTED = {
    "fee_accident": "critical",
    "double_spend": "critical",
    "whale": "high",
    "dormant_coins": "high",
    "dormant_round_move": "high",
    "watch_listed": "high",
    "package_fee": "medium",
    "replacement_redirected": "medium",
    "dust_storm": "medium",
    "forest": "medium",
    "huge_consolidation": "low",
    "sample": "low",
    "coinjoin": None,
    "whirlpool": None,
    "whirlpool_tx0": None,
    "wasabi_2": None,
    "wasabi_1": None,
    "joinmarket": None,
    "stonewall": None,
    "consolidation": None,
    "batch_payout": None,
    "package": None,
    "internal_move": None,
    "exchange_in": None,
    "exchange_out": None,
    "exchange_to_exchange": None,
    "arrival_burst": "medium",
    "fee_rate_jump": "medium",
    "no_block": "medium",
    "pattern_flood": "medium",
}
"""The severity of each kind that alerts, None for a tag."""
OF_WHAT_LASTS = {"arrival_burst", "fee_rate_jump", "no_block", "pattern_flood", "system", "recovered"}
"""Kinds that no transaction has."""


def test_the_table_says_what_alerts_and_how_severely() -> None:
    said = {kind.name: kind.severity.name if kind.alerts else None for kind in KINDS.values()}
    assert said == EXPECTED | {"system": "high", "recovered": "low"}
    assert all(kind.claim.endswith(".") for kind in KINDS.values())


def test_kinds_detectors_and_known_cases_name_each_other() -> None:
    found = {kind for detector in default_detectors(whale_btc=500) for kind in detector.kinds}
    assert found | {"double_spend", "forest", "sample"} | OF_WHAT_LASTS == set(KINDS)
    assert {name for kind in KINDS.values() for name in kind.silences} <= found
    cases = (*incidents(), *look_alikes(15.0))
    assert {kind for case in cases for kind in (case.expected, case.tag)} <= {None, *found}


def test_what_a_kind_accounts_for_are_features_of_the_contract() -> None:
    for kind in KINDS.values():
        assert set(kind.accounts_for) <= set(FEATURE_NAMES), kind.name


@pytest.mark.parametrize(
    ("kinds", "alerts"),
    [
        ([], False),
        (["coinjoin", "batch_payout"], False),
        (["coinjoin", "forest"], True),
        (["huge_consolidation"], True),
        (["forest", "whale", "fee_accident"], True),
        (["whale", "internal_move"], False),
        (["whale", "internal_move", "forest"], True),
        (["whale", "exchange_in"], True),
    ],
)
def test_reasons_alert_as_their_kinds_do(kinds: list[str], alerts: bool) -> None:
    assert alerting(Reason(kind, "words") for kind in kinds) is alerts


def test_the_page_of_models_has_the_same_table() -> None:
    page = (PROJECT / "docs/models.md").read_text(encoding="utf-8").split("## Kinds")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    assert {row[0].strip("`"): None if row[2] == "tag" else row[1] for row in rows} == EXPECTED
    for name, _, _, claim in rows:
        assert KINDS[name.strip("`")].claim.startswith(claim.rstrip(".")), name
