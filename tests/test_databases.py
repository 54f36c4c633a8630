"""What tests do with the databases that they share."""

from tests.databases import empty_tables
from txwatch.store.database import connect, scalar


def test_tables_are_emptied_with_those_that_refer_to_them_directly_or_not(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "CREATE TABLE parent (id int PRIMARY KEY, next int REFERENCES parent);"
            "CREATE TABLE child (id int PRIMARY KEY REFERENCES parent);"
            "CREATE TABLE grandchild (id int REFERENCES child);"
            "CREATE TABLE stranger (id int);"
            "INSERT INTO parent VALUES (1, 1); INSERT INTO child VALUES (1); INSERT INTO grandchild VALUES (1);"
            "INSERT INTO stranger VALUES (1)"
        )
        empty_tables(connection, "parent, channels")
        left = {
            name: scalar(connection, f"SELECT count(*) FROM {name}")  # noqa: S608
            for name in ("parent", "child", "grandchild", "stranger")
        }
        assert left == {"parent": 0, "child": 0, "grandchild": 0, "stranger": 1}
