"""A backtest says what two versions would have alerted on, and where they differ."""

from tests.modelling import model, traffic
from txwatch.detection.kinds import Severity
from txwatch.lab.evaluation.backtest import backtest
from txwatch.rules.parse import comparison
from txwatch.rules.rule import Rule


def test_two_versions_share_the_rules_alerts_and_differ_in_the_forests() -> None:
    measured = traffic(seed=2, minutes=20)
    models = [model(version="a"), model("2024-10", minutes=20, version="b")]
    result = backtest(measured, models, whale_btc=500)
    told = result.as_dict()
    assert told["transactions"] == len(measured)
    assert set(told["models"]) == {"a", "b"}
    planted = {
        tx.txid
        for tx, label in zip(measured.transactions, measured.labels, strict=True)
        if label in {"plant:fee_accident", "plant:whale"}
    }
    assert planted
    for alerts in result.alerts.values():
        assert planted <= set(alerts)
    assert len(result.only("b")) > len(result.only("a"))
    assert result.common() + len(result.only("a")) == len(result.alerts["a"])
    assert {"txid", "score", "threshold", "reasons", "seen_at"} == set(told["models"]["b"]["only"][0])


def test_the_order_of_the_capture_does_not_matter() -> None:
    measured = traffic(seed=2, minutes=20)
    shuffled = type(measured)(measured.transactions[::-1], measured.labels[::-1])
    trained = [model(version="a")]
    assert backtest(measured, trained, whale_btc=500).alerts == backtest(shuffled, trained, whale_btc=500).alerts


def test_rules_of_users_alert_within_their_caps() -> None:
    measured, trained = traffic(seed=2, minutes=20), model(version="a")
    plain = backtest(measured, [trained], whale_btc=500).alerts["a"]
    rules = [
        Rule("large", "Large", Severity.low, comparison("value_sat >= 5 BTC"), alerts_per_hour=1_000),
        Rule("any", "Any", Severity.low, comparison("value_sat >= 0 sat"), alerts_per_hour=3),
    ]
    followed = backtest(measured, [trained], whale_btc=500, rules=rules).alerts["a"]
    found = {rule.name: [t for t, s in followed.items() if rule.kind in {r.kind for r in s.reasons}] for rule in rules}
    large = {tx.txid for tx in measured.transactions if tx.value_sat >= 500_000_000}
    assert set(found["large"]) == large
    assert len(found["any"]) == 3
    assert set(followed) - set(plain) <= {*found["large"], *found["any"]}, "nothing else alerts by them"
