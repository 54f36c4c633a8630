"""What an alert was worth: the price that was known when its transaction was seen, in every lane and in a replay."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from tests.modelling import model
from txwatch.alerts.alert import Alert
from txwatch.alerts.messages import DigestLine, alert_lines, digest_lines, to_html
from txwatch.alerts.store import insert_alerts, raise_window_alerts, read_alerts
from txwatch.clock import WINDOW, window_start
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason, money, priced
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score_windows import score_windows
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.lab.evaluation.backtest import backtest
from txwatch.lab.evaluation.replay import Labelled
from txwatch.labels.label import Label
from txwatch.labels.store import KnownAddresses, import_labels
from txwatch.live.lane import LiveScoring
from txwatch.store.database import Connection, connect
from txwatch.store.prices import SETTLED, StoredPrices, insert_price
from txwatch.store.transactions import land_transactions
from txwatch.wire.prices import Price, worth
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

MINUTE = timedelta(minutes=1)
BTC = 100_000_000
PRICE = 68_000.0


@pytest.mark.parametrize(
    ("satoshi", "usd_price", "said"),
    [
        (245_800_000_000, 94_800, "2,458.00 BTC · 233 M USD"),
        (245_800_000_000, None, "2,458.00 BTC"),
        (100_000_000, 68_000, "1.00 BTC · 68,000 USD"),
        (14_999_999, 66_666.67, "0.14999999 BTC · 10,000 USD"),
        (546, 68_000, "546 sat · 0.37 USD"),
        (20_000, 68_000, "20,000 sat · 14 USD"),
        (0, 68_000, "0 sat · 0.00 USD"),
        (2_000_000_000, 68_000, "20.00 BTC · 1.36 M USD"),
        (20_000_000_000, 68_000, "200.00 BTC · 13.6 M USD"),
        (2_000_000_000_000, 68_000, "20,000.00 BTC · 1.36 B USD"),
        (2_100_000_000_000_000, 100_000_000, "21,000,000.00 BTC · 2,100 T USD"),
        (99_999_999_999, 10_000, "1,000.00 BTC · 10.0 M USD"),
    ],
)
def test_an_amount_reads_in_btc_and_usd(satoshi: float, usd_price: float | None, said: str) -> None:
    assert money(satoshi, usd_price) == said


def test_worth_is_to_the_cent_and_unknown_without_a_price() -> None:
    assert worth(123_456_789, 68_123.45) == 84_103.02
    assert worth(None, PRICE) is None
    assert worth(1, None) is None


def test_only_the_amount_that_a_reason_is_about_is_priced() -> None:
    whale = Reason("whale", "600.00 BTC likely moved, of outputs of 700.00 BTC", "moved_sat", 6e10)
    assert priced(whale, PRICE) == "600.00 BTC · 40.8 M USD likely moved, of outputs of 700.00 BTC"
    assert priced(whale, None) == whale.text
    for other in (Reason("coinjoin", "0.1 BTC to each", "equal_output_count", 6.0), Reason("watch_listed", "6 BTC")):
        assert priced(other, PRICE) == other.text


def a_move(txid: str, btc: float, target: str = "another") -> Transaction:
    sat = int(btc * BTC)
    spent = [SpentOutput("someone", sat + 1_220, "p2wpkh", 0)]
    paid = [CreatedOutput(target, sat, "p2wpkh", 0)]
    return transaction(txid=txid * 64, inputs=spent, outputs=paid, value_sat=sat, input_sat=sat + 1_220)


def an_alert(*reasons: Reason, kind: str = "whale", usd_price: float | None = PRICE) -> Alert:
    return Alert("a" * 64, [kind], Severity.high, list(reasons), False, T0, T0, "7", usd_price=usd_price)


WHALE = Reason("whale", "600.00 BTC likely moved", "moved_sat", 6e10)


def test_a_message_tells_amounts_in_usd_too() -> None:
    title, *_, facts, _origin = to_html(alert_lines(an_alert(WHALE), a_move("a", 600), T0)).splitlines()
    assert title == "<b>🐋 Whale</b> · 600.00 BTC · 40.8 M USD between unknown parties"
    assert facts.startswith("fee 1,220 sat · 0.83 USD (")
    fee = Reason("fee_accident", "fee of 1,220 sat", "fee_sat", 1_220)
    assert "fee 1,220 sat · 0.83 USD" in to_html(alert_lines(an_alert(fee, kind="fee_accident"), a_move("a", 600), T0))


def test_a_message_without_a_price_tells_btc_alone() -> None:
    message = to_html(alert_lines(an_alert(WHALE, usd_price=None), a_move("a", 600), T0))
    assert message.startswith("<b>🐋 Whale</b> · 600.00 BTC between unknown parties\n")
    assert "USD" not in message


def test_a_digest_tells_amounts_in_usd_too() -> None:
    lines = [DigestLine(an_alert(WHALE), 60_000_000_000), DigestLine(an_alert(kind="forest"), 60_000_000_000)]
    *_, whale, forest = to_html(digest_lines(lines, (), T0)).splitlines()
    assert whale.endswith(" 600.00 BTC · 40.8 M USD likely moved")
    assert forest.endswith(" 600.00 BTC · 40.8 M USD · unusual transaction")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(
            connection,
            "usd_prices, labels, whale_moves, transactions, transaction_scores,"
            " transaction_features, network_baseline, alerts",
        )
        yield connection


def stored(connection: Connection) -> dict[str, tuple[object, object]]:
    return {
        key: (price, at)
        for key, price, at in connection.execute("SELECT alert_key, usd_price, usd_price_at FROM alerts").fetchall()
    }


def test_an_alert_keeps_the_price_that_was_known_when_its_transaction_was_seen(connection: Connection) -> None:
    insert_price(connection, Price(60_000, T0 - 3 * MINUTE, "mempool.space"), T0 - 2 * MINUTE)
    insert_price(connection, Price(61_000, T0 + MINUTE, "mempool.space"), T0 + MINUTE)
    seen = {"0": T0 - 3 * MINUTE, "1": T0, "2": T0 + MINUTE, "3": T0 + 3 * timedelta(hours=1)}
    alerts = [
        Alert(n * 64, ["whale"], Severity.high, [WHALE], False, at, T0 + timedelta(hours=4)) for n, at in seen.items()
    ]
    system = Alert("system:drift:1", ["system"], Severity.high, [], False, T0, T0)
    insert_alerts(connection, [*alerts, system], [])
    assert stored(connection) == {
        "0" * 64: (None, None),
        "1" * 64: (60_000, T0 - 3 * MINUTE),
        "2" * 64: (61_000, T0 + MINUTE),
        "3" * 64: (None, None),
        "system:drift:1": (None, None),
    }
    assert [alert.usd_price for alert in read_alerts(connection, ["1" * 64, "0" * 64])] == [60_000, None]


LIMIT = 1_000_000.0
MOVES = [a_move("a", 20), a_move("b", 16, target="exchange"), a_move("c", 500), a_move("d", 10)]
START = window_start(T0)


def whales(connection: Connection) -> set[str]:
    keys = connection.execute("SELECT alert_key FROM alerts WHERE 'whale' = ANY (kinds)").fetchall()
    return {key[0] for (key,) in keys}


@pytest.mark.parametrize(
    ("noted_at", "found"),
    [
        (START - SETTLED, {"a", "c"}),  # at 60,000 USD it takes 16.67 BTC
        (START - SETTLED + timedelta(microseconds=1), {"c"}),  # a lane may not see it yet
        (START - 2 * timedelta(hours=1), {"c"}),  # too old
        (None, {"c"}),
    ],
)
def test_a_whale_by_usd_is_one_in_every_lane_and_in_a_replay(
    connection: Connection, noted_at: object, found: set[str]
) -> None:
    with connection.transaction():
        import_labels(connection, [Label("exchange", "book", "Acme", "exchange")], T0)
    if noted_at is not None:
        insert_price(connection, Price(60_000, noted_at, "mempool.space"), noted_at)  # type: ignore[arg-type]
    trained = model(minutes=20, trees=50)
    live = LiveScoring(lambda: trained, CurrentDetectors(500, LIMIT), clock=lambda: T0)
    with connection.transaction():
        land_transactions(connection, MOVES)
        live.write(connection, MOVES)
    assert whales(connection) == found

    # Another price comes, and the lanes that come after see the same as before.
    insert_price(connection, Price(90_000, T0, "mempool.space"), T0 + MINUTE)
    with connection.transaction():
        publish_network_baseline(connection, START, START + WINDOW)
    for _ in write_features(connection, START, START + WINDOW):
        pass
    connection.execute("UPDATE label_changes SET changed_at = now() - interval '1 hour'")
    [result] = score_windows(connection, [START], trained, whale_btc=500, whale_usd=LIMIT)
    assert (result.compared, result.differing) == (len(MOVES), 0)
    before = stored(connection)
    empty_tables(connection, "alerts, transaction_scores")
    score_windows(connection, [START], trained, whale_btc=500, whale_usd=LIMIT)
    raise_window_alerts(connection, START, START + WINDOW, [], T0 + timedelta(hours=2))
    assert whales(connection) == found
    assert stored(connection) == before

    replayed = backtest(
        Labelled(MOVES, [None] * len(MOVES)),
        [trained],
        whale_btc=500,
        whale_usd=LIMIT,
        price_of=StoredPrices(connection),
        known=KnownAddresses.stored(connection),
    )
    told = replayed.alerts[trained.version].items()
    assert {txid[0] for txid, score in told if any(reason.kind == "whale" for reason in score.reasons)} == found


def test_the_flow_of_a_whale_by_usd_is_told(connection: Connection) -> None:
    with connection.transaction():
        import_labels(connection, [Label("exchange", "book", "Acme", "exchange")], T0)
    insert_price(connection, Price(70_000, START - MINUTE, "mempool.space"), START - MINUTE)
    live = LiveScoring(lambda: None, CurrentDetectors(500, 350_000), clock=lambda: T0)
    with connection.transaction():
        moves = [a_move("e", 6, target="exchange")]
        land_transactions(connection, moves)
        live.write(connection, moves)
    [alert] = read_alerts(connection, ["e" * 64])
    assert alert.kinds == ["whale", "exchange_in"]
