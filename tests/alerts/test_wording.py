"""What a message says of one alert: everything that is needed, nothing of it twice, in every channel."""

from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from txwatch.alerts.alert import Alert
from txwatch.alerts.messages import MAX_REASONS, alert_lines, ordinal, to_text
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

BTC = 100_000_000
PRICE = 68_000.0
WHALE = Reason("whale", "600.00 BTC likely moved, of outputs of 700.00 BTC", "moved_sat", 600.0 * BTC)
ACCIDENT = Reason("fee_accident", "fee of 2.50 BTC, 80% of what was spent, at 9,000 sat/vB", "fee_sat", 2.5 * BTC)
FLOW = Reason("exchange_in", "from unknown to Acme (labels: a book)")


def a_transaction(value: float, fee: float) -> Transaction:
    sat, fee_sat = int(value * BTC), int(fee * BTC)
    return transaction(
        value_sat=sat,
        input_sat=sat + fee_sat,
        fee_sat=fee_sat,
        inputs=[SpentOutput("someone", sat + fee_sat, "p2wpkh", 0)],
        outputs=[CreatedOutput("another", sat, "p2wpkh", 0)],
    )


def written(*reasons: Reason, tx: Transaction, standing: str | None = None, updates: tuple[str, ...] = ()) -> list[str]:
    kinds = list(dict.fromkeys(reason.kind for reason in reasons))
    alert = Alert(tx.txid, kinds, Severity.high, list(reasons), False, T0, T0, "7", usd_price=PRICE)
    return to_text(alert_lines(alert, tx, T0 + timedelta(seconds=1), updates, standing=standing)).splitlines()


def test_a_whale_reads_in_this_order() -> None:
    tx = a_transaction(700, 0.00001)
    lines = written(
        WHALE, FLOW, tx=tx, standing="larger than any whale in 30 days", updates=("✅ confirmed in block 840,000",)
    )
    assert lines == [
        "🐋 Whale, into an exchange · 600.00 BTC · 40.8 M USD",
        "✅ confirmed in block 840,000",
        "📈 larger than any whale in 30 days",
        "🏷 from unknown to Acme (labels: a book)",
        "total 700.00 BTC · 47.6 M USD, fee 1,000 sat · 0.68 USD (9.0 sat/vB), 1 in → 1 out",
        f"{tx.txid[:8]}…{tx.txid[-4:]} (https://mempool.space/tx/{tx.txid})"
        " · seen 12:00:00 UTC, sent 1.0 s later · model 7",
    ]


def test_a_fee_is_said_once() -> None:
    text = "\n".join(written(ACCIDENT, tx=a_transaction(0.625, 2.5)))
    assert text.startswith("🔥 Fee accident · fee 2.50 BTC · 170,000 USD\n• 80% of what was spent, at 9,000 sat/vB\n")
    assert text.count("2.50 BTC") == 1
    assert text.count("sat/vB") == 1
    assert text.count("fee") == 1


def test_a_fee_that_a_reason_names_is_not_named_again_but_its_rate_is() -> None:
    unusual = Reason("forest", "fee of 0.0013 BTC (more than 99 % of transactions)", "fee_sat", 0.0013 * BTC)
    lines = written(unusual, tx=a_transaction(3, 0.0013))
    assert "• fee of 0.0013 BTC · 88 USD (more than 99 % of transactions)" in lines
    assert "1,171.2 sat/vB, 1 in → 1 out" in lines


def test_a_message_gives_three_reasons_at_most() -> None:
    reasons = [Reason("forest", f"reason {n}") for n in range(MAX_REASONS + 2)]
    lines = written(*reasons, tx=a_transaction(3, 0.0001))
    assert [line for line in lines if line.startswith("•")] == ["• reason 0", "• reason 1", "• reason 2"]


def test_an_alert_of_the_system_gives_all_its_reasons() -> None:
    reasons = [Reason("system", f"reason {n}") for n in range(MAX_REASONS + 2)]
    alert = Alert("system:x:1", ["system"], Severity.high, reasons, False, T0, T0)
    assert to_text(alert_lines(alert, None, T0)).count("• ") == MAX_REASONS + 2


def test_after_retention_the_message_still_says_who_and_why() -> None:
    alert = Alert("a" * 64, ["whale", "exchange_in"], Severity.high, [WHALE, FLOW], False, T0, T0, "7")
    _, who, why, _ = to_text(alert_lines(alert, None, T0)).splitlines()
    assert (who, why) == ("🏷 from unknown to Acme (labels: a book)", f"• {WHALE.text}")


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (113, "113th"), (1022, "1,022nd")],
)
def test_places_are_written_out(number: int, said: str) -> None:
    assert ordinal(number) == said
