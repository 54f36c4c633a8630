"""`blocks` reads the chain over a real HTTP server, and shows what it found."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg

from blockchain_assets.blocks import blocks
from blockchain_assets.partitions import window_partitions
from blockchain_assets.transactions import transactions_asset
from resources.database import DatabaseResource
from resources.ingestion import IngestionResource
from resources.model_registry import ModelRegistryResource
from resources.telegram import TelegramResource
from tests.answering import in_a_thread
from tests.builders import numbered_utx
from tests.conftest import Installation
from txwatch.clock import utc_now, window_key, window_start
from txwatch.ingest.batch import Batch
from txwatch.ingest.lander import commit
from txwatch.lab.simulator.chain import Chain
from txwatch.lab.simulator.feed import RestApi
from txwatch.store.database import connect
from txwatch.store.gaps import FeedGap
from txwatch.store.sightings import FollowedSource, note_sources
from txwatch.wire.messages import BlockAnnouncement, UnconfirmedTransaction, decode
from txwatch.wire.transaction import from_wire

START = window_start(utc_now()) - timedelta(hours=2)
MINUTE = timedelta(minutes=1)


@contextmanager
def served(api: RestApi) -> Iterator[str]:
    """The simulated REST API as a real server; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            response = api.answer(self.path)
            self.send_response(response.status_code)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, in_a_thread(server) as url:
        yield url


def message(n: int, at: datetime) -> bytes:
    return numbered_utx(n, time=int(at.timestamp()))


def test_blocks_are_read_gaps_are_closed_and_windows_can_be_recovered_by_hand(
    installation: Installation, dagster_instance: dg.DagsterInstance
) -> None:
    chain = Chain(seed=1, start=START)
    gap = FeedGap(START + 10 * MINUTE, START + 12 * MINUTE, "connection closed", "heard again after reconnecting")
    batch = Batch(START, START + 90 * MINUTE, gaps=[gap])
    for n in range(90):
        at = START + n * MINUTE
        chain.served(message(n, at), at)
        if not gap.started_at <= at < START + 12 * MINUTE:
            wire = decode(message(n, at))
            assert isinstance(wire, UnconfirmedTransaction)
            batch.transactions.append(from_wire(wire.x, at))
        if n % 10 == 9:
            block = decode(chain.mine(at + timedelta(seconds=30)).announcement())
            assert isinstance(block, BlockAnnouncement)
            batch.blocks.append(block.x)
    with connect(installation.database_url) as connection:
        commit(connection, batch, epoch=None, now=START + 91 * MINUTE)
        connection.execute("UPDATE blocks SET seen_at = block_time")
        followed = (START - 60 * MINUTE, datetime.now(UTC), datetime.now(UTC))
        note_sources(connection, [FollowedSource("blockchain.info", *followed, True, "connected", 1.0, 83)])

    with served(RestApi(chain, lambda: datetime.now(UTC))) as url:
        database = DatabaseResource(url=installation.database_url)
        resources = {
            "database": database,
            "ingestion": IngestionResource(
                database=database,
                model_registry=ModelRegistryResource(home="", database_url=installation.database_url),
                telegram=TelegramResource(),
                sources=["blockchain.info"],
                stream_url="",
                rest_url=url,
                spool="",
                whale_btc=500,
                rest_interval_seconds=0,
            ),
        }
        by_hand = dg.materialize(
            [transactions_asset(window_partitions(START))],
            partition_key=window_key(START + 10 * MINUTE),
            resources=resources,
            instance=dagster_instance,
        )
        read = dg.materialize([blocks], resources=resources, instance=dagster_instance)

    [window] = by_hand.asset_materializations_for_node("transactions")
    figures = {name: value.value for name, value in window.metadata.items()}
    assert (figures["recovered_by_this_run"], figures["recovered_rows"]) == (2, 2)
    assert (figures["gaps"], figures["gap_seconds"]) == (0, 0)
    assert all(check.passed for check in by_hand.get_asset_check_evaluations() if check.check_name == "no_feed_gap")
    [chain_read] = read.asset_materializations_for_node("blocks")
    assert chain_read.metadata["completeness"].value == 1.0
    assert chain_read.metadata["gaps_waiting"].value == 0
    assert chain_read.metadata["completeness_blockchain.info"].value == 0
    assert "| blockchain.info |" in str(chain_read.metadata["by_source"].value)
    with connect(installation.database_url) as connection:
        rows = connection.execute("SELECT source, count(*) FROM transactions GROUP BY 1 ORDER BY 1").fetchall()
        confirmed = connection.execute("SELECT count(*) FROM confirmations").fetchone()
    assert rows == [("block", 2), ("feed", 88)]
    assert confirmed == (90,)
