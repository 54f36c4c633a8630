"""Waits until a calmed installation has settled, and takes stock of it."""

from pathlib import Path

from tests.soak.accounting import Ledger, account, unmarked
from tests.soak.home import Home
from tests.soak.messages import Message, Post, account_for_post
from tests.soak.reading import read_alert_kinds, read_deliveries, read_gaps, read_quarantined, read_rows, read_sighted
from tests.soak.recorded_feed import MinedBlock, SentMessage, TrafficOver, read_record
from txwatch.store.database import Connection, connect


def settled_gaps(home: Home) -> bool:
    """Whether every gap was recovered."""
    with connect(home.database_url) as connection:
        return all(gap.state not in {"open", "ended"} for gap in read_gaps(connection))


def scored_in_full(home: Home) -> bool:
    """Whether every transaction has a score of a champion, and each planted one that must alert has its alert."""
    with connect(home.database_url) as connection:
        return not unscored(connection) and not unmarked(
            read_record(home.record), _txids(connection), read_alert_kinds(connection)
        )


def unscored(connection: Connection) -> int:
    """How many transactions have no score."""
    row = connection.execute(
        "SELECT count(*) FROM transactions t WHERE NOT EXISTS"
        " (SELECT FROM transaction_scores s WHERE s.txid = t.txid AND s.lane <> 'shadow')"
    ).fetchone()
    return int(row[0]) if row else 0


def everything_landed(home: Home) -> bool:
    """Whether the traffic is over, and all is there that was mined."""
    lines = read_record(home.record)
    if not isinstance(lines[-1], TrafficOver):
        return False
    mined = {txid for line in lines if isinstance(line, MinedBlock) for txid in line.txids}
    with connect(home.database_url) as connection:
        return mined <= _txids(connection)


def nothing_waits(home: Home) -> bool:
    """Whether every delivery is in a final state, and each uncertain one was named."""
    with connect(home.database_url) as connection:
        return all(
            delivery.state in {"sent", "digested", "dead"} or delivery.listed_in is not None
            for delivery in read_deliveries(connection)
        )


def take_stock(home: Home) -> tuple[Ledger, Post]:
    """The accounts of an installation whose processes have ended, and whose database has not."""
    lines = read_record(home.record)
    last_sent = max(line.at for line in lines if isinstance(line, SentMessage))
    with connect(home.database_url) as connection:
        kinds = read_alert_kinds(connection)
        # Once the traffic is over the feed is silent, and its silences are gaps in which nothing is sent.
        gaps = [gap for gap in read_gaps(connection) if gap.started_at < last_sent]
        sighted = {source: set[str]() for source in home.sources} | read_sighted(connection)
        ledger = account(lines, read_rows(connection), gaps, read_quarantined(connection), kinds, sighted)
        deliveries = read_deliveries(connection)
    messages = [Message(said.message_id, said.text, said.links) for said in home.first_said]
    return ledger, account_for_post(list(kinds), deliveries, messages)


def left_files(folder: Path) -> list[str]:
    """Files below a folder that belong to something unfinished, relative to it."""
    unfinished = (".partial", ".tmp", ".batch", ".unreadable", ".lock")
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (path.suffix in unfinished or path.name == "lock" or path.name.startswith(".dagster.yaml."))
    ]


def _txids(connection: Connection) -> set[str]:
    return {txid for (txid,) in connection.execute("SELECT txid FROM transactions WHERE source <> 'bulk'")}
