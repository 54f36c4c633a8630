"""Messages are cut within Telegram's limit on a boundary, and nothing from outside can become markup."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatch.alerts.messages import MAX_UNITS, Line, Piece, clean, cut, to_html, units
from txwatch.lab.simulator.telegram_rules import read_text

HOSTILE = "<b>&amp;</b>\"'🐋👩‍👩‍👧é\u202eأهلا"
texts = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(HOSTILE), max_size=60)
pieces = st.builds(Piece, texts, st.sampled_from(["", "b", "i", "code"]), st.none() | texts)
messages = st.lists(st.lists(pieces, max_size=4), max_size=8)


def plain(lines: list[Line]) -> str:
    return "\n".join("".join(piece.text for piece in line) for line in lines)


@given(texts)
def test_units_are_those_of_utf_16(text: str) -> None:
    assert units(text) == len(text.encode("utf-16-le")) // 2


@given(texts, st.integers(0, 80))
def test_a_cut_text_fits_and_is_a_beginning_on_a_boundary(text: str, limit: int) -> None:
    kept = cut(text, limit)
    assert units(kept) <= limit
    if kept == text:
        return
    assert units(text) > limit
    assert kept == "" or (kept.endswith("…") and text.startswith(kept[:-1]))
    following = text[len(kept) - 1 :][:1] if kept else ""
    assert not (following and unicodedata.combining(following) and len(kept) > 1)


def test_what_belongs_together_is_not_parted() -> None:
    family, accented = "👩‍👩‍👧", "e\u0301"
    assert cut("ab" + family, 6) == "ab…"
    assert cut("ab" + accented + "cd", 4) == "ab…"
    assert cut("🐋🐋", 3) == "🐋…"


@given(messages, st.integers(1, 200))
def test_a_message_of_any_text_is_read_by_telegram_as_that_text(message: list[Line], limit: int) -> None:
    written = to_html(message, limit)
    if not written.strip():
        return
    try:
        shown, _ = read_text(written, "HTML")
    except Exception as error:
        assert "text is empty" in str(error)  # noqa: PT017 - white space alone is no message to Telegram
        return
    assert units(shown) <= limit
    whole = plain(message)
    assert whole.startswith(shown.rstrip("\n")) or (shown.endswith("…") and whole.startswith(shown[:-1]))
    if units(whole) <= limit:
        assert shown.rstrip("\n") == whole.rstrip("\n")


@pytest.mark.parametrize("filler", ["<b>x</b>", "&amp;", "🐋", "أ", "👩‍👩‍👧"])
def test_an_over_long_message_fills_telegrams_limit_and_not_more(filler: str) -> None:
    shown = read_text(to_html([[Piece(filler * 5_000, "b", 'https://x/?a=<&"')]]), "HTML")[0]
    assert MAX_UNITS - 10 <= units(shown) <= MAX_UNITS


def test_text_from_outside_is_one_line_that_reads_in_its_own_direction() -> None:
    assert clean("a\u202e\x00b\r\n\tc\u2028d\u2066 e") == "a b c d e"
