"""An upgrade of a filled database: rows are what they were, as far as their new types tell it, and days are whole."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from alembic import command
from numpy.typing import NDArray
from psycopg import sql

from tests.archive.filled import DAY, NEXT, fill_day
from tests.databases import copied_database
from txwatch.archive.datasets import ARCHIVED, FEATURES, TRANSACTIONS
from txwatch.archive.days import day_span, read_day
from txwatch.archive.manifest import Archive
from txwatch.archive.reading import read_file
from txwatch.archive.upkeep import give_up_days
from txwatch.archive.writing import archive_day
from txwatch.features.contract import FEATURE_NAMES, Feature
from txwatch.features.contract import FEATURES as CONTRACT
from txwatch.store.database import Connection, connect
from txwatch.store.migrate import alembic_config, migrate

NOW = datetime.fromisoformat("2024-03-16T06:00Z")
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, FEATURE_NAMES))


def features_of(connection: Connection) -> tuple[list[str], NDArray[np.float64]]:
    query = sql.SQL("SELECT txid, {} FROM transaction_features ORDER BY txid").format(COLUMNS)
    rows = connection.execute(query, binary=True).fetchall()
    return [row[0] for row in rows], np.array([row[1:] for row in rows], np.float64)


def others_of(connection: Connection) -> list[list[tuple[object, ...]]]:
    names = ("transactions", "transaction_scores")
    return [
        connection.execute(sql.SQL("SELECT * FROM {} ORDER BY 1, 2").format(sql.Identifier(name))).fetchall()
        for name in names
    ]


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Amounts in satoshi as they are, all else as the nearest float32."""
    exact = np.array([feature.type == "float64" for feature in CONTRACT])
    return np.where(exact, values, values.astype(np.float32))


def test_a_filled_database_of_0027_is_the_same_after_the_upgrade(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = copied_database(server_url, "template0")
    command.upgrade(alembic_config(url), "0027")
    archive = Archive(tmp_path / "archive", tmp_path / "work")
    with connect(url) as connection:
        # What writes here is the program of today, which also notes what a later migration adds.
        connection.execute("ALTER TABLE archived_days ADD removed_at TIMESTAMPTZ")
        with monkeypatch.context() as before:
            # What the program of then wrote: doubles, into the database and into its archive.
            before.setattr(Feature, "type", "float64")
            fill_day(connection)
            fill_day(connection, NEXT)
            doubles = [pa.field(f.name, pa.float64() if f.name in FEATURE_NAMES else f.type) for f in FEATURES.schema]
            of_then = replace(FEATURES, schema=pa.schema(doubles))
            before.setattr("txwatch.archive.writing.FORMAT", 1)
            written = archive_day(connection, archive, of_then, DAY, NOW)
            archive_day(connection, archive, TRANSACTIONS, DAY, NOW)
        txids, values = features_of(connection)
        others = others_of(connection)
        assert not np.array_equal(values, rounded(values), equal_nan=True), "there is something to round"

        connection.execute("ALTER TABLE archived_days DROP removed_at")

    migrate(url)

    with connect(url) as connection:
        after, found = features_of(connection)
        assert after == txids
        np.testing.assert_array_equal(found, rounded(values))
        assert others_of(connection) == others
        assert written.format == 1
        told = pa.concat_tables(read_file(archive, FEATURES, written)).sort_by("txid")
        assert told.schema.field("fee_rate").type == pa.float32()
        assert told.schema.field("value_sat").type == pa.float64()
        at = [txids.index(txid) for txid in told["txid"].to_pylist()]
        columns = np.column_stack([told[name].to_numpy().astype(np.float64) for name in FEATURE_NAMES])
        np.testing.assert_array_equal(columns, rounded(values)[at])
        # Its rows are no longer those of the file: it is written again before the database gives it up.
        assert read_day(connection, FEATURES, DAY).complete is False  # type: ignore[union-attr]
        assert read_day(connection, TRANSACTIONS, DAY).complete  # type: ignore[union-attr]
        given_up = list(give_up_days(connection, archive, day_span(NEXT)[0], NOW))
        assert [one.why for one in given_up] == [None] * len(ARCHIVED)
        assert archive.manifest(FEATURES, DAY).format == 2  # type: ignore[union-attr]

    command.downgrade(alembic_config(url), "0027")
    with connect(url) as connection:
        kinds = connection.execute(
            "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_name = 'transaction_features'"
            " AND column_name = ANY(%s)",
            [list(FEATURE_NAMES)],
        ).fetchall()
        assert kinds == [("double precision",)]
        assert connection.execute("SELECT count(*) FROM transaction_features").fetchone() == (40,)
