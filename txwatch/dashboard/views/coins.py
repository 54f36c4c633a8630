"""The coins of a transaction, drawn: from each input to each output, as wide as it is worth."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from txwatch.dashboard import look, palette
from txwatch.features.transaction import BLOCKS_A_DAY
from txwatch.queries.coins import Coin
from txwatch.queries.transactions import TransactionDetail

MOST_COINS = 10
"""Of each side, the most valuable; the others are one row."""
ROW = 46
"""Pixels of a row's height, as the style sheet has it."""
MOST_WIDTH = 150.0
"""Pixels that all inputs together are wide."""


@dataclass(frozen=True)
class _Row:
    """A row of one side: markup of its name, what is said of it, its satoshi (None if unknown) and its colour."""

    name: str
    said: str
    satoshi: int | None
    colour: str


def draw_coins(tx: TransactionDetail) -> str:
    """Both sides as markup: beside each other with bands between them, one below the other on a phone."""
    left = _side([_spent(coin) for coin in _largest(tx.inputs)], tx.inputs, "more input")
    right = _side([_created(coin) for coin in _largest(tx.outputs)], tx.outputs, "more output")
    if tx.fee_sat is not None:
        said = look.amount(tx.fee_sat, tx.usd_price)
        right.append(_Row("fee, to the miner", said, tx.fee_sat, palette.SEVERITY["critical"]))
    height = ROW * max(len(left), len(right))
    total = max(sum(row.satoshi or 0 for row in side) for side in (left, right)) or 1
    scale = min(MOST_WIDTH, 0.7 * height) / total
    bands = _bands(left, scale, height, 0) + _bands(right, scale, height, 100)
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 {height}" preserveAspectRatio="none">{bands}</svg>'
    )
    # As a picture: drawings within the page are taken out of it by Streamlit.
    picture = b64encode(drawn.encode()).decode()
    return (
        f'<div class="coins"><div><div class="note">{_count(len(tx.inputs), "input")}</div>{"".join(map(_row, left))}'
        f'</div><img src="data:image/svg+xml;base64,{picture}" style="height:{height}px"'
        ' alt="Bands from inputs to outputs, as wide as they are worth">'
        f'<div><div class="note">{_count(len(tx.outputs), "output")}</div>{"".join(map(_row, right))}</div></div>'
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _largest(coins: Sequence[Coin]) -> list[Coin]:
    """The most valuable, in the order that they have in the transaction."""
    kept = sorted(coins, key=lambda coin: -(coin.value or 0))[:MOST_COINS]
    return sorted(kept, key=lambda coin: coin.n) if len(coins) <= MOST_COINS else kept


def _side(rows: list[_Row], coins: Sequence[Coin], noun: str) -> list[_Row]:
    more = len(coins) - len(rows)
    if not more:
        return rows
    rest = sum(coin.value or 0 for coin in coins) - sum(row.satoshi or 0 for row in rows)
    return [*rows, _Row(_count(more, noun), look.amount(rest), rest, palette.GREY)]


def _spent(coin: Coin) -> _Row:
    return _Row(_name(coin), _said(coin, age(coin)), coin.value, palette.BLUE)


def _created(coin: Coin) -> _Row:
    if coin.type == "op_return":
        return _Row("data, no address", _said(coin, ""), coin.value, palette.OCHRE)
    colour = palette.GREY if coin.likely_change else palette.GREEN
    return _Row(_name(coin), _said(coin, "likely change" if coin.likely_change else ""), coin.value, colour)


def _name(coin: Coin) -> str:
    if coin.addr is None:
        return "no address"
    shown = coin.addr if len(coin.addr) <= 20 else f"{coin.addr[:10]}…{coin.addr[-6:]}"
    entity = (
        "" if coin.entity is None else f'<b title="by {escape(coin.label_source or "")}">{escape(coin.entity)}</b> '
    )
    return f"{entity}{look.address_link(coin.addr, shown)}"


def _said(coin: Coin, more: str) -> str:
    return ", ".join(
        part for part in (look.amount(coin.value) if coin.value is not None else "", coin.type, more) if part
    )


def age(coin: Coin) -> str:
    """The age of a spent coin, empty where it is not known."""
    if coin.age_blocks is None:
        return ""
    days = coin.age_blocks / BLOCKS_A_DAY
    old = "unconfirmed" if coin.height is None else f"{days / 365.25:.1f} years" if days >= 365 else f"{days:.0f} days"
    return f"{old}, mined" if coin.coinbase else old


def _row(row: _Row) -> str:
    return (
        f'<div class="coin" style="border-color:{row.colour}"><div class="of">{row.name}</div>'
        f'<div class="note">{escape(row.said)}</div></div>'
    )


def _bands(rows: Sequence[_Row], scale: float, height: int, edge: int) -> str:
    """A band from each row at this edge (0 or 100) to the middle, where they lie on each other."""
    widths = [max((row.satoshi or 0) * scale, 0.6) for row in rows]
    at, bands, above = (height - sum(widths)) / 2, list[str](), (height - ROW * len(rows)) / 2
    bend = (edge + 50) / 2
    for place, (row, width) in enumerate(zip(rows, widths, strict=True)):
        middle = above + ROW * (place + 0.5)
        shown = min(width, ROW - 6.0)
        top, bottom = middle - shown / 2, middle + shown / 2
        bands.append(
            f'<path fill="{row.colour}" fill-opacity=".55" d="M{edge},{top:.1f} C{bend},{top:.1f} {bend},{at:.1f}'
            f' 50,{at:.1f} L50,{at + width:.1f} C{bend},{at + width:.1f} {bend},{bottom:.1f} {edge},{bottom:.1f} Z"/>'
        )
        at += width
    return "".join(bands)
