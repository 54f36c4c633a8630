"""Binary COPY writes what it was given, to the last digit, and refuses what would shift the columns after it."""

from datetime import UTC, datetime

import numpy as np
import pytest

from txwatch.features.store import BinaryColumn, copy_rows
from txwatch.store.database import connect


def test_values_come_back_as_they_were(database_url: str) -> None:
    floats = np.array([0.1, -0.0, np.nan, np.inf, 5e-324])
    moments = [0, 1, 946_684_799_999_999, 946_684_800_000_000, 1_710_374_400_123_456]
    with connect(database_url) as connection, connection.transaction():
        connection.execute("CREATE TEMP TABLE copied (name text, at timestamptz, n bigint, x double precision, y real)")
        copy_rows(
            connection,
            "copied",
            [
                BinaryColumn.text("name", ["aa", "bb", "cc", "dd", "ee"], width=2),
                BinaryColumn.times("at", np.array(moments)),
                BinaryColumn.integers("n", np.array([0, -1, 2**62, 3, 4])),
                BinaryColumn.floats("x", floats),
                BinaryColumn.reals("y", floats),
            ],
        )
        rows = connection.execute("SELECT * FROM copied", binary=True).fetchall()
    assert [row[0] for row in rows] == ["aa", "bb", "cc", "dd", "ee"]
    assert [(row[1] - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() for row in rows] == [m / 1e6 for m in moments]
    assert [row[2] for row in rows] == [0, -1, 2**62, 3, 4]
    np.testing.assert_array_equal([row[3] for row in rows], floats)
    np.testing.assert_array_equal([row[4] for row in rows], floats.astype(np.float32))


@pytest.mark.parametrize("text", ["abc", "a", "é"])
def test_a_text_of_another_width_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not 2"):
        BinaryColumn.text("name", ["ab", text], width=2)
