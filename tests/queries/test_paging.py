"""Keyset paging: whatever lands meanwhile, a walk through the pages gives each row once and in order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0, transaction
from txwatch.queries.paging import BadCursorError, Position, page_of
from txwatch.queries.transactions import list_transactions
from txwatch.store.database import connect
from txwatch.store.transactions import land_transactions

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(MOMENTS, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80))
def test_a_cursor_gives_back_its_position(moment: datetime, key: str) -> None:
    position = Position(moment, key)
    assert Position.decode(position.encode()) == position


@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    try:
        position = Position.decode(text)
    except BadCursorError:
        return
    assert position.encode() == text


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 7))
def test_pages_together_are_the_whole(seconds: list[int], limit: int) -> None:
    rows = sorted(((T0 + timedelta(seconds=s), f"{i:03d}") for i, s in enumerate(seconds)), reverse=True)
    walked: list[tuple[datetime, str]] = []
    cursor = None
    while True:
        after = Position.decode(cursor) if cursor else None
        rest = [row for row in rows if after is None or row < (after.moment, after.key)]
        page = page_of(rest[: limit + 1], limit, lambda row: Position(*row))
        walked += page.items
        cursor = page.next
        if cursor is None:
            break
    assert walked == rows


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_what_lands_meanwhile_neither_repeats_nor_hides_a_row(database_url: str, limit: int) -> None:
    # Many share their moment, so that only the key tells them apart.
    first = [transaction(txid=f"{limit:04x}{i:060x}", seen_at=T0 + timedelta(seconds=i // 5)) for i in range(23)]
    with connect(database_url) as connection, connection.transaction(force_rollback=True):
        land_transactions(connection, first)
        walked: list[str] = []
        cursor = None
        for step in range(30):
            page = list_transactions(connection, limit=limit, cursor=cursor)
            walked += [row.txid for row in page.items]
            cursor = page.next
            if cursor is None:
                break
            land_transactions(
                connection,
                [transaction(txid=f"f{limit:03x}{step:060x}", seen_at=T0 + timedelta(hours=1, seconds=step))],
            )
        assert walked == [tx.txid for tx in sorted(first, key=lambda tx: (tx.seen_at, tx.txid), reverse=True)]
