"""The accounts of a soak find what they are there to find: whatever is missing, doubled, changed or too many."""

from datetime import timedelta

import pytest

from tests.builders import T0
from tests.soak.accounting import FEED, POLLED, GapRow, Row, account
from tests.soak.faults import ALL, KILLS, LEFT_ALONE, schedule
from tests.soak.memory import Life, growth
from tests.soak.messages import Delivery, Message, account_for_post
from tests.soak.recorded_feed import Line, MinedBlock, SentMessage
from txwatch.alerts.messages import EXPLORER

SECOND = timedelta(seconds=1)
GAP = GapRow(T0 + 10 * SECOND, T0 + 20 * SECOND, "connection closed: 1006", "recovered", FEED)


def txid(n: int) -> str:
    return f"{n:064x}"


def sent(n: int, *labels: str) -> SentMessage:
    return SentMessage(T0 + n * SECOND, txid(n), (n,), labels)


def rows(*numbers: int, source: str = "feed") -> dict[str, Row]:
    return {txid(n): Row(source, n) for n in numbers}


def sighted(*numbers: int) -> dict[str, set[str]]:
    return {FEED: set(map(txid, numbers))}


def mined(*numbers: int, at: int = 100) -> MinedBlock:
    return MinedBlock(T0 + at * SECOND, 1, tuple(map(txid, numbers)))


def replacing(n: int, replaced: int) -> SentMessage:
    return SentMessage(T0 + n * SECOND, txid(n), (n,), replaces=txid(replaced))


def test_all_is_accounted_for() -> None:
    lines: list[Line] = [sent(1), sent(1), sent(15), sent(16), mined(1, 15)]
    ledger = account(lines, rows(1) | rows(15, source="block"), [GAP], [], {}, sighted(1))
    assert ledger.faults == {}
    assert (ledger.sent, ledger.transactions, ledger.repeated) == (4, 3, 1)
    assert (ledger.from_feed, ledger.from_blocks, ledger.never_mined) == (1, 1, [txid(16)])
    assert ledger.gaps_by_cause == {"connection closed": 1}


@pytest.mark.parametrize(
    ("lines", "landed", "fault"),
    [
        ([sent(1), mined(1)], {}, "lost"),
        ([sent(1)], {}, "lost"),
        ([sent(15), mined(15)], {}, "not_recovered"),
        ([sent(1)], rows(1, 2), "not_sent"),
        ([sent(1)], {txid(1): Row("feed", 7)}, "changed"),
        ([sent(1, "sim:whale")], rows(1), "unmarked"),
    ],
)
def test_whatever_is_wrong_with_a_row_is_found(lines: list[Line], landed: dict[str, Row], fault: str) -> None:
    told = {FEED: set(landed)}
    assert list(account(lines, landed, [GAP], [], {}, told).faults)[:1] == [fault]


AWAY = GapRow(T0 + 15 * SECOND, T0 + 30 * SECOND, "connection closed: 1006", "recovered", POLLED)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([sent(12)], "lost"),  # the other was there
        ([sent(14)], "lost"),  # it has waited for a poll in the gap: its mempool was read at the end of that
        ([sent(22)], "lost"),  # the feed was there
        ([sent(12), mined(12, at=13)], "not_recovered"),  # in a block before the next poll
        ([sent(17), mined(17, at=25)], "not_recovered"),
        ([sent(17), replacing(19, 17)], ""),  # gone before it was there again
        ([replacing(12, 3)], ""),  # the miners may have kept what it replaces
    ],
)
def test_what_one_source_misses_the_other_must_have_told(lines: list[Line], fault: str) -> None:
    landed = rows(19) if fault == "" and len(lines) == 2 else {}
    told = {FEED: set(landed), POLLED: set(landed)}
    found = account(lines, landed, [GAP, AWAY], [], {}, told).faults
    found.pop("unsighted", None)
    assert list(found) == ([fault] if fault else [])


def test_what_a_source_told_is_noted_as_seen_there() -> None:
    lines: list[Line] = [sent(n) for n in (1, 2, 12, 17, 40)]
    landed = rows(1, 2, 12, 17, 40)
    told = {FEED: {txid(1), txid(2)}, POLLED: {txid(1), txid(12)}}
    ledger = account(lines, landed, [GAP, AWAY], [], {}, told)
    assert sorted(ledger.unsighted) == [txid(2), txid(40), txid(40)]
    assert ledger.sighted == {FEED: 2, POLLED: 2}
    told[FEED].add(txid(9))
    assert account(lines, landed, [GAP, AWAY], [], {}, told).not_sent == [txid(9)]


def test_malformed_messages_are_quarantined_once_unless_they_were_sent_in_a_gap() -> None:
    lines: list[Line] = [SentMessage(T0 + n * SECOND, None, body=f"body {n}") for n in (1, 2, 15)]
    ledger = account(lines, {}, [GAP], ["body 1", "body 1", "body 9"], {}, sighted())
    assert ledger.faults == {"lost_malformed": ["body 2"], "wrongly_quarantined": ["body 1", "body 9"]}
    assert ledger.unheard_malformed == ["body 15"]


def delivery(
    n: int, state: str, message_id: int | None = None, request: int = 1, listed: int | None = None
) -> Delivery:
    return Delivery(txid(n), state, message_id, request, listed, None)


def alone(message_id: int, n: int) -> Message:
    return Message(message_id, "🐋 Whale", (EXPLORER + txid(n),))


def digest(message_id: int, *numbers: int) -> Message:
    text = f"🗂 {len(numbers)} alerts in one message"
    return Message(message_id, text, tuple(EXPLORER + txid(n) for n in numbers))


def test_every_alert_is_in_one_message() -> None:
    deliveries = [
        delivery(1, "sent", 1),
        *(delivery(n, "digested", 2, 2) for n in (2, 3)),
        delivery(4, "uncertain", request=3, listed=9),
        delivery(5, "uncertain", request=4, listed=9),
    ]
    told = Message(4, "⚠️ 2 alerts may not have reached you", (EXPLORER + txid(4), EXPLORER + txid(5)))
    post = account_for_post(
        [txid(n) for n in range(1, 6)], deliveries, [alone(1, 1), digest(2, 2, 3), alone(3, 4), told]
    )
    assert post.faults == {}
    assert (post.sent_alone, post.digested, len(post.uncertain), post.uncertain_and_arrived) == (1, 2, 2, 1)


@pytest.mark.parametrize(
    ("deliveries", "messages", "fault"),
    [
        ([delivery(1, "pending")], [], "left pending"),
        ([delivery(1, "uncertain")], [], "uncertain, and no digest named it"),
        ([delivery(1, "sent", 1)], [], "said to be sent in a message that Telegram never took"),
        ([delivery(1, "sent", 1)], [alone(1, 2)], "not named in its message"),
        ([delivery(1, "sent", 1)], [digest(1, 1)], "sent alone in a message that is not about it alone"),
        ([delivery(1, "digested", 1)], [digest(1, 1, 2)], "a digest of another number of alerts"),
        ([delivery(1, "sent", 1)], [alone(1, 1), alone(2, 1)], "a message too many"),
        ([delivery(1, "uncertain", listed=2)], [alone(1, 1), alone(2, 1)], "a message too many"),
    ],
)
def test_whatever_is_wrong_with_a_message_is_found(
    deliveries: list[Delivery], messages: list[Message], fault: str
) -> None:
    assert list(account_for_post([txid(1)], deliveries, messages).faults) == [fault]


def test_the_schedule_has_one_of_each_and_leaves_the_living_alone_in_the_end() -> None:
    faults = schedule(7_200, seed=3)
    assert {fault.name for fault in faults} == set(ALL)
    assert faults == schedule(7_200, seed=3) != schedule(7_200, seed=4)
    assert max(fault.at for fault in faults if fault.name in KILLS) <= LEFT_ALONE * 7_200


def test_growth_is_measured_from_a_quarter_of_a_life_to_its_end() -> None:
    life = Life("worker", 1, [float(n) for n in range(100)], [min(100.0, 4.0 * n) for n in range(100)])
    found = growth(life)
    assert found.warm == 100.0
    assert found.mebibytes == 0.0
