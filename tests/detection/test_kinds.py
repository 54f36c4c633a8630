import pytest

from txwatch.detection.kinds import KINDS, SEVERITIES, alerting, severity
from txwatch.detection.reasons import Reason
from txwatch.features.contract import FEATURE_NAMES
from txwatch.system.environment import PROJECT

EXPECTED = {
    "fee_accident": "critical",
    "whale": "high",
    "dormant_round_move": "high",
    "watch_listed": "high",
    "package_fee": "medium",
    "dust_storm": "medium",
    "forest": "medium",
    "huge_consolidation": "low",
    "coinjoin": None,
    "consolidation": None,
    "batch_payout": None,
    "internal_move": None,
    "exchange_in": None,
    "exchange_out": None,
    "exchange_to_exchange": None,
}
"""The severity of each kind that alerts, None for a tag."""


def test_the_table_says_what_alerts_and_how_severely() -> None:
    assert {kind.name: kind.severity if kind.alerts else None for kind in KINDS.values()} == EXPECTED
    assert all(kind.claim.endswith(".") and kind.severity in SEVERITIES for kind in KINDS.values())


def test_what_a_kind_accounts_for_are_features_of_the_contract() -> None:
    for kind in KINDS.values():
        assert set(kind.accounts_for) <= set(FEATURE_NAMES), kind.name


@pytest.mark.parametrize(
    ("kinds", "alerts", "highest"),
    [
        ([], False, "low"),
        (["coinjoin", "batch_payout"], False, "low"),
        (["coinjoin", "forest"], True, "medium"),
        (["huge_consolidation"], True, "low"),
        (["forest", "whale", "fee_accident"], True, "critical"),
        (["whale", "internal_move"], False, "low"),
        (["whale", "internal_move", "forest"], True, "medium"),
        (["whale", "exchange_in"], True, "high"),
    ],
)
def test_reasons_alert_as_their_kinds_do(kinds: list[str], alerts: bool, highest: str) -> None:
    reasons = [Reason(kind, "words") for kind in kinds]
    assert alerting(reasons) is alerts
    assert severity(reasons) == highest


def test_the_page_of_models_has_the_same_table() -> None:
    page = (PROJECT / "docs/models.md").read_text(encoding="utf-8").split("## Kinds")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    assert {row[0].strip("`"): None if row[2] == "tag" else row[1] for row in rows} == EXPECTED
    for name, _, _, claim in rows:
        assert KINDS[name.strip("`")].claim.startswith(claim.rstrip(".")), name
