"""The demo: the real system, from nothing, on the local feed instead of the live one.

A simulated history is landed beside the live traffic. Everything after that (sealing, features, training, promotion,
scoring) is done by the same sensors as in production. The demo only starts processes, watches, and counts.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from txwatch.clock import utc_now, window_start
from txwatch.lab.simulator.plants import DUST_STORM, PEEL_CHAIN, label
from txwatch.places import Place
from txwatch.settings import Settings
from txwatch.sources.bitcoin_core import NAME as NODE
from txwatch.store.database import Connection, connect, scalar, statement
from txwatch.system.environment import DEMO_PORTS, FEED_PORT, PORTS, TELEGRAM_PORT, require_free
from txwatch.system.history import SimulatedHistory
from txwatch.system.launch import database, launch
from txwatch.system.processes import feed_process, txwatch_command
from txwatch.system.regtest import DemoNodes
from txwatch.system.watch import Watch, console

HISTORY = timedelta(hours=1)
"""For a first model: four times the least rows of a training, and a held-out fifth with planted anomalies."""
LOCAL_CHAT = {"TELEGRAM_BOT_TOKEN": "1:local", "TELEGRAM_CHAT_ID": "1"}
"""Of the local Telegram, which takes any token; for a user without a token."""


@dataclass(frozen=True)
class DemoOptions:
    """`seconds` counts from the first live message; None: until a signal. `rate` is in transactions a second.

    `sources` are names as in TXWATCH_SOURCES; the local feed speaks the protocols of blockchain.info and mempool.space.
    `node` is a bitcoind, of which two are followed besides.
    """

    capture: Place | None = None
    seconds: float | None = None
    rate: float | None = None
    regime: str = "2024-03"
    sources: str = "blockchain.info"
    node: Path | None = None


def run_demo(options: DemoOptions) -> int:
    """Run the demo, and with `seconds` print its result as one line of JSON. Returns the exit status."""
    settings, began = Settings(), utc_now()
    require_free(PORTS | DEMO_PORTS)
    capture, truth = options.capture, (settings.home / "truth.jsonl").resolve()
    seed = int(utc_now().timestamp())
    feed_options = {
        "capture": capture.resolve() if isinstance(capture, Path) else capture,
        "rate": options.rate,
        "regime": options.regime,
        "seed": seed,
        "truth": truth,
    }
    extra = {"feed": feed_process(FEED_PORT, feed_options)}
    sources, nodes, node_settings = options.sources, None, {}
    if options.node is not None:
        nodes = DemoNodes.under(settings.home / "regtest", options.node)
        nodes.prepare(settings.home.resolve() / "logs")
        extra |= nodes.commands(seed)
        sources, node_settings = f"{sources},{NODE}", nodes.settings
    local_telegram, telegram_settings = None, {}
    if settings.telegram_bot_token is None:
        local_telegram = f"http://127.0.0.1:{TELEGRAM_PORT}"
        extra["telegram"] = txwatch_command("telegram", f"--port={TELEGRAM_PORT}")
        telegram_settings = LOCAL_CHAT | {"TELEGRAM_API_URL": local_telegram}
    with database(settings) as url:
        start, landed = history_start(settings), (settings.home / "demo_history_landed").resolve()
        history = SimulatedHistory(url, options.regime, start, HISTORY, landed)
        watch = Watch(settings, url, seconds=options.seconds, local_telegram=local_telegram, history=history)
        status = launch(
            settings,
            url,
            extra=extra,
            sensors_after=landed,
            watch=watch,
            TXWATCH_STREAM_URL=f"ws://127.0.0.1:{FEED_PORT}/inv",
            TXWATCH_REST_URL=f"http://127.0.0.1:{FEED_PORT}",
            TXWATCH_SOURCES=sources,
            MEMPOOL_SPACE_URL=f"http://127.0.0.1:{FEED_PORT}",
            TXWATCH_HISTORY_START=start.isoformat(),
            **telegram_settings,
            **node_settings,
        )
        if options.seconds is None or status != 0:
            return status
        with connect(url, application="txwatch demo") as connection:
            result = watch.result() | planted_and_told(connection, truth, began)
            idle = watch.idle_stages(result)
            if nodes is not None:
                result["node"] = nodes.accounts(connection)
                idle += [f"node {kind}" for kind, account in result["node"].items() if not account["told"]]
    print(json.dumps(result), flush=True)
    if idle:
        long_enough = "a live window is over after five minutes at most, and scored within two more (SECONDS=480)"
        console.print(f"Nothing came of {', '.join(idle)}: {long_enough}.", soft_wrap=True)
    return 1 if idle else 0


class Planted(msgspec.Struct):
    """A line of the local feed's truth: a labelled transaction, and when it was sent (UTC)."""

    txid: str
    labels: list[str]
    at: datetime


def planted_and_told(connection: Connection, truth: Path, since: datetime) -> dict[str, dict[str, int]]:
    """What alerts gather, planted since a moment, and how much of it they tell.

    `peel_hops` are hops of peel chains, `campaign_transactions` those of dust storms, each of which is one campaign.
    """
    lines = msgspec.json.Decoder(Planted).decode_lines(truth.read_bytes())
    counts = {}
    told_by = {
        "peel_hops": (PEEL_CHAIN, statement("system", "told_peel_hops")),
        "campaign_transactions": (DUST_STORM, statement("system", "told_campaign_transactions")),
    }
    for name, (plant, query) in told_by.items():
        planted = [line.txid for line in lines if label(plant) in line.labels and line.at >= since]
        counts[name] = {"planted": len(planted), "told": scalar(connection, query, {"txids": planted})}
    return counts


def history_start(settings: Settings) -> datetime:
    """The start of the demo's history: the recorded one of this home, so that a later start does not move it."""
    record = settings.home / "demo_history_start"
    if record.exists():
        return datetime.fromisoformat(record.read_text().strip())
    start = window_start(utc_now()) - HISTORY
    settings.home.mkdir(parents=True, exist_ok=True)
    record.write_text(start.isoformat() + "\n")
    return start
