"""What labels and the watch list do to alerts: alike in the live lane, the window lane and a backtest."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from tests.builders import T0, transaction
from tests.databases import empty_tables
from tests.modelling import model
from txwatch.alerts.alert import Alert
from txwatch.alerts.commands import answer
from txwatch.alerts.store import raise_window_alerts, read_alerts
from txwatch.clock import WINDOW, window_start
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score_windows import score_windows
from txwatch.features.network import publish_network_baseline
from txwatch.features.store import write_features
from txwatch.lab.evaluation.backtest import backtest
from txwatch.lab.evaluation.replay import Labelled
from txwatch.labels.label import Label
from txwatch.labels.store import KnownAddresses, import_labels, watch
from txwatch.labels.whales import list_whale_moves
from txwatch.live.lane import LiveScoring
from txwatch.queries.alerts import list_whales
from txwatch.store.database import Connection, connect
from txwatch.store.transactions import land_transactions
from txwatch.wire.transaction import CreatedOutput, SpentOutput, Transaction

BTC = 100_000_000
LABELS = [
    Label("acme-hot", "book", "Acme", "exchange"),
    Label("acme-cold", "book", "Acme", "exchange"),
    Label("kraken", "explorer", "Kraken", "exchange"),
]


def move(txid: str, source: str, target: str, btc: float = 600) -> Transaction:
    sat = int(btc * BTC)
    return transaction(
        txid=txid.rjust(64, "0"),
        inputs=[SpentOutput(source, sat + 1_220, "p2wpkh", 0)],
        outputs=[CreatedOutput(target, sat, "p2wpkh", 0)],
        value_sat=sat,
        input_sat=sat + 1_220,
    )


TRANSACTIONS = [
    move("into", "someone", "kraken"),
    move("within", "acme-hot", "acme-cold"),
    move("between", "acme-hot", "kraken"),
    move("unknown", "someone", "another"),
    move("watched", "thief", "another", btc=0.5),
]
KINDS = {
    "into": ["whale", "exchange_in"],
    "between": ["whale", "exchange_to_exchange"],
    "unknown": ["whale"],
    "watched": ["watch_listed"],
}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        empty_tables(
            connection,
            "labels, label_changes, watch_list, whale_moves, transactions,"
            " transaction_scores, transaction_features, network_baseline, alerts",
        )
        with connection.transaction():
            import_labels(connection, LABELS, T0)
            watch(connection, "thief", "taken in 2016", T0)
        yield connection


def kinds(alerts: Sequence[Alert]) -> dict[str, list[str]]:
    """The kinds of each alert, without the forest's opinion, which is not what these tests are about."""
    return {
        short(a.alert_key): found for a in alerts if (found := [kind for kind in a.kinds if kind != "forest"]) != []
    }


def short(txid: str) -> str:
    return txid.lstrip("0")


def all_alerts(connection: Connection) -> list[Alert]:
    keys = [key for (key,) in connection.execute("SELECT alert_key FROM alerts ORDER BY 1")]
    return read_alerts(connection, keys)


def land(connection: Connection, live: LiveScoring | None = None) -> None:
    with connection.transaction():
        assert len(land_transactions(connection, TRANSACTIONS)) == len(TRANSACTIONS)
        if live is not None:
            live.write(connection, TRANSACTIONS)


def test_the_live_lane_tells_flows_leaves_internal_moves_alone_and_hears_of_watched_addresses(
    connection: Connection,
) -> None:
    trained = model(minutes=20, trees=50)
    land(connection, LiveScoring(lambda: trained, CurrentDetectors(500), clock=lambda: T0))
    alerts = {short(alert.alert_key): alert for alert in all_alerts(connection)}
    found = kinds(list(alerts.values()))
    assert {key: found[key] for key in KINDS} == KINDS
    assert "whale" not in found.get("within", []), "a move inside one entity does not alert as a whale"
    assert [r.text for r in alerts["into"].reasons if r.kind == "exchange_in"] == [
        "from unknown to Kraken (labels: explorer)"
    ]
    ((reasons,),) = connection.execute("SELECT reasons FROM transaction_scores WHERE txid LIKE '%within'").fetchall()
    assert [r["text"] for r in reasons if r["kind"] == "internal_move"] == ["within Acme (labels: book)"]
    flows = {short(whale.txid): whale.flow for whale in list_whale_moves(connection)}
    assert flows == {
        "into": "exchange_in",
        "within": "internal_move",
        "between": "exchange_to_exchange",
        "unknown": "unknown",
    }
    told = {short(whale.txid): whale.flow for whale in list_whales(connection).items}
    assert told == {"into": "inflow", "between": "between exchanges", "unknown": "unknown"} | (
        {"within": "internal"} if "within" in alerts else {}
    )
    top = answer(connection, "1", "/top", T0 + timedelta(hours=1))
    assert top is not None
    assert top.splitlines()[-1] == (
        "🐋 into exchanges 600.00 BTC (1), between exchanges 600.00 BTC (1), internal 600.00 BTC (1),"
        " unknown 600.00 BTC (1)"
    )


def test_an_address_that_is_watched_from_now_on_alerts_in_the_next_batch(
    connection: Connection, database_url: str
) -> None:
    trained = model(minutes=20, trees=50)
    live = LiveScoring(lambda: trained, CurrentDetectors(500), clock=lambda: T0)
    land(connection, live)
    with connect(database_url) as another, another.transaction():
        watch(another, "suspect", "", T0)
    later = [move("later", "someone", "suspect", btc=0.1)]
    with connection.transaction():
        land_transactions(connection, later)
        live.write(connection, later)
    assert kinds(all_alerts(connection))["later"] == ["watch_listed"]


def test_the_window_lane_and_a_backtest_say_the_same(connection: Connection) -> None:
    trained = model(minutes=20, trees=50)
    land(connection, LiveScoring(lambda: trained, CurrentDetectors(500), clock=lambda: T0))
    by_live = kinds(all_alerts(connection))
    connection.execute("UPDATE label_changes SET changed_at = now() - interval '1 hour'")
    window = window_start(T0)
    with connection.transaction():
        publish_network_baseline(connection, window, window + WINDOW)
    for _ in write_features(connection, window, window + WINDOW):
        pass
    [result] = score_windows(connection, [window], trained, whale_btc=500)
    assert (result.compared, result.differing) == (len(TRANSACTIONS), 0)

    empty_tables(connection, "alerts, transaction_scores")
    score_windows(connection, [window], trained, whale_btc=500)
    raise_window_alerts(connection, window, window + WINDOW, [], T0)
    assert kinds(all_alerts(connection)) == by_live

    replayed = backtest(
        Labelled(TRANSACTIONS, [None] * len(TRANSACTIONS)),
        [trained],
        whale_btc=500,
        known=KnownAddresses.stored(connection),
    )
    reasons = {short(txid): {r.kind for r in score.reasons} for txid, score in replayed.alerts[trained.version].items()}
    assert set(KINDS) <= set(reasons)
    assert {txid: set(found) <= reasons[txid] for txid, found in KINDS.items()} == dict.fromkeys(KINDS, True)


def test_scores_from_before_labels_changed_are_not_compared(connection: Connection) -> None:
    trained = model(minutes=20, trees=50)
    land(connection, LiveScoring(lambda: trained, CurrentDetectors(500), clock=lambda: T0))
    connection.execute("UPDATE label_changes SET changed_at = now() + interval '1 hour'")
    for _ in write_features(connection, window_start(T0), window_start(T0) + WINDOW):
        pass
    [scored] = score_windows(connection, [window_start(T0)], trained, whale_btc=500)
    assert scored.compared == 0
