"""Between whom value moves, by labels."""

import pytest

from txwatch.labels.flows import Coin, Flow, flow_of
from txwatch.labels.label import Known, Label, known_by_address

BTC = 100_000_000


def known() -> dict[str, Known]:
    return known_by_address(
        [
            Label("acme-hot", "book", "Acme", "exchange"),
            Label("acme-cold", "book", "Acme", "exchange"),
            # Another source spells it otherwise, and does not say what it is.
            Label("acme-vault", "blog", "ACME"),
            Label("kraken", "explorer", "Kraken", "exchange"),
            Label("pool", "miners", "Some Pool", "miner"),
            Label("pool-2", "miners", "Some Pool", "miner"),
        ]
    )


def coins(**amounts: float) -> list[Coin]:
    return [(address.replace("_", "-"), value * BTC) for address, value in amounts.items()]


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind", "between"),
    [
        (coins(a=600), coins(b=599), "unknown", "from unknown to unknown"),
        (coins(a=600), coins(kraken=599), "exchange_in", "from unknown to Kraken"),
        (coins(kraken=600), coins(a=500, b=99), "exchange_out", "from Kraken to unknown"),
        (coins(acme_hot=600), coins(kraken=599), "exchange_to_exchange", "from Acme to Kraken"),
        (coins(acme_hot=600), coins(acme_cold=599), "internal_move", "within Acme"),
        (coins(acme_hot=600), coins(acme_vault=590, change=5), "internal_move", "within Acme"),
        (coins(acme_hot=600), coins(acme_hot=599), "internal_move", "within Acme"),
        (coins(pool=600), coins(pool_2=599), "internal_move", "within Some Pool"),
        (coins(pool=600), coins(a=599), "unknown", "from Some Pool to unknown"),
        # One label among the inputs names the sender of all.
        (coins(a=300, acme_hot=300), coins(acme_cold=599), "internal_move", "within Acme"),
        # Labels that contradict each other name no single owner.
        (coins(kraken=300, acme_hot=300), coins(acme_cold=599), "exchange_out", "from Acme and Kraken to unknown"),
        # More than a little leaves.
        (coins(acme_hot=600), coins(acme_cold=300, a=299), "exchange_out", "from Acme to unknown"),
        (coins(acme_hot=30_000), coins(acme_cold=29_800, a=150), "exchange_out", "from Acme to unknown"),
        # A small payment at the side.
        (coins(a=600), coins(b=590, kraken=9), "unknown", "from unknown to unknown"),
        # What returns to the sender is change.
        (coins(a=6_000), coins(a=5_000, kraken=999), "exchange_in", "from unknown to Kraken"),
    ],
)
def test_flows(inputs: list[Coin], outputs: list[Coin], kind: str, between: str) -> None:
    flow = flow_of(inputs, outputs, known())
    assert (flow.kind, flow.between) == (kind, between)


def test_a_flow_names_the_sources_of_its_labels() -> None:
    flow = flow_of(coins(acme_hot=600), coins(kraken=599), known())
    assert flow.text == "from Acme to Kraken (labels: book, explorer)"
    assert Flow().text == "from unknown to unknown"


def test_scripts_without_an_address_are_nobody() -> None:
    assert flow_of([(None, 600 * BTC)], [(None, 599 * BTC)], known()).kind == "unknown"


def test_of_several_labels_the_most_certain_counts_and_any_may_say_that_it_is_an_exchange() -> None:
    (one,) = known_by_address(
        [
            Label("x", "a", "Somebody", "exchange", "web_crawl"),
            Label("x", "b", "Acme", "unknown", "ownership"),
            Label("x", "c", "Acme Ltd", "unknown", "no such word"),
        ]
    ).values()
    assert (one.best.entity, one.is_exchange, one.parties) == ("Acme", True, {"somebody", "acme", "acmeltd"})
