"""What a message says of labelled addresses."""

from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from txwatch.alerts.alert import Alert
from txwatch.alerts.messages import alert_lines, to_html
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.labels.label import Label, known_by_address
from txwatch.wire.transaction import CreatedOutput, SpentOutput

WHALE = Reason("whale", "600.00 BTC likely moved", "moved_sat", 6e10)
KNOWN = known_by_address(
    [
        Label("mixer", "a list", "Blender.io", "mixing_service"),
        Label("acme", "a book", "Acme <b>", "exchange"),
        Label("nobody", "a wiki", "Somebody"),
    ]
)


def message(*reasons: Reason, source: str = "someone", target: str = "another") -> list[str]:
    tx = transaction(
        inputs=[SpentOutput(source, 60_000_001_220, "p2wpkh", 0)],
        outputs=[CreatedOutput(target, 60_000_000_000, "p2wpkh", 0), CreatedOutput(source, 5_000, "p2wpkh", 1)],
    )
    alert = Alert(tx.txid, [r.kind for r in reasons], Severity.high, list(reasons), False, T0, T0, "7")
    return to_html(alert_lines(alert, tx, T0 + timedelta(seconds=1), known=KNOWN)).splitlines()


def test_the_flow_of_a_whale_stands_beside_its_amount_and_between_whom_below() -> None:
    flow = Reason("exchange_in", "from unknown to Acme <b> (labels: a book)")
    lines = message(WHALE, flow, target="acme")
    assert lines[0] == "<b>🐋 Whale, into an exchange</b> · 600.00 BTC"
    assert [line for line in lines if "Acme" in line] == ["🏷 from unknown to Acme &lt;b&gt; (labels: a book)"]


def test_a_whale_between_unknown_parties_says_so() -> None:
    assert message(WHALE)[0] == "<b>🐋 Whale</b> · 600.00 BTC between unknown parties"


@pytest.mark.parametrize(
    ("source", "target", "line"),
    [
        ("mixer", "another", "🏷 from Blender.io (mixing service, a list)"),
        ("someone", "acme", "🏷 to Acme &lt;b&gt; (exchange, a book)"),
        ("someone", "nobody", "🏷 to Somebody (a wiki)"),
        ("mixer", "mixer", "🏷 from Blender.io (mixing service, a list)"),
    ],
)
def test_labels_of_known_addresses_are_named_with_their_source(source: str, target: str, line: str) -> None:
    lines = message(Reason("forest", "unusual"), source=source, target=target)
    assert [text for text in lines if text.startswith("🏷")] == [line]
