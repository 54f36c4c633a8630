"""The demo: the real system, from nothing, on the local feed instead of the live one.

Its history is simulated and landed in seconds; everything after that (sealing, features, training, promotion,
scoring) is done by the same sensors as in production. The demo only starts processes, watches, and counts.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from txwatch.clock import utc_now
from txwatch.places import Place
from txwatch.settings import Settings
from txwatch.simulator.traffic import Simulator
from txwatch.store.database import connect
from txwatch.system.environment import DEMO_PORTS, FEED_PORT, PORTS, TELEGRAM_PORT
from txwatch.system.history import land_history
from txwatch.system.launch import console, database, launch
from txwatch.system.ports import require_free
from txwatch.system.processes import feed_process, telegram_process
from txwatch.system.watch import DemoWatch
from txwatch.windows import window_start

HISTORY = timedelta(hours=6)
HISTORY_SEED = 1
LOCAL_CHAT = {"TELEGRAM_BOT_TOKEN": "1:local", "TELEGRAM_CHAT_ID": "1"}
"""Without a token of the user's, alerts go to the local Telegram, which takes any."""
LIVE_WITHIN = timedelta(seconds=45)
"""How soon after the history the first live transaction comes, at the latest."""


@dataclass(frozen=True)
class DemoOptions:
    """`seconds` counts from the first live message, None runs until a signal. `rate` is in transactions a second."""

    capture: Place | None = None
    seconds: float | None = None
    rate: float | None = None
    regime: str = "2024-03"


def run_demo(options: DemoOptions) -> int:
    """Run the demo, and with `seconds` print its result as one line of JSON. Returns the exit status."""
    settings = Settings()
    require_free(PORTS | DEMO_PORTS)
    capture = options.capture
    feed_options = {
        "capture": capture.resolve() if isinstance(capture, Path) else capture,
        "rate": options.rate,
        "regime": options.regime,
        "seed": int(utc_now().timestamp()),
        "truth": (settings.home / "truth.jsonl").resolve(),
    }
    extra = {"feed": feed_process(FEED_PORT, feed_options)}
    local_telegram = None
    telegram_settings = {}
    if settings.telegram_bot_token is None:
        local_telegram = f"http://127.0.0.1:{TELEGRAM_PORT}"
        extra["telegram"] = telegram_process(TELEGRAM_PORT)
        telegram_settings = LOCAL_CHAT | {"TELEGRAM_API_URL": local_telegram}
    with database(settings) as url:
        watch = DemoWatch(url, options.seconds, local_telegram)
        history = DemoHistory(settings, url, options.regime)
        status = launch(
            settings,
            url,
            before=history.land,
            then=history.land,
            extra=extra,
            watch=watch,
            TXWATCH_STREAM_URL=f"ws://127.0.0.1:{FEED_PORT}/inv",
            TXWATCH_REST_URL=f"http://127.0.0.1:{FEED_PORT}",
            TXWATCH_HISTORY_START=history.start.isoformat(),
            **telegram_settings,
        )
        if options.seconds is None or status != 0:
            return status
        result = watch.result()
    print(json.dumps(result), flush=True)
    return 0 if watch.every_stage_worked(result) else 1


class DemoHistory:
    """Six simulated hours that end where the live traffic begins. A system that has data keeps what it has."""

    def __init__(self, settings: Settings, database_url: str, regime: str) -> None:
        self._database_url = database_url
        self._regime = regime
        self._record = settings.home / "demo_history_start"
        self._simulator: Simulator | None = None
        if self._record.exists():
            self.start = datetime.fromisoformat(self._record.read_text().strip())
        else:
            self.start = window_start(utc_now() + LIVE_WITHIN) - HISTORY
            settings.home.mkdir(parents=True, exist_ok=True)
            self._record.write_text(self.start.isoformat() + "\n")

    def land(self) -> None:
        """Land the history up to the window in which the live traffic will begin; again, what came due meanwhile."""
        if self._simulator is None:
            with connect(self._database_url) as connection:
                if connection.execute("SELECT 1 FROM transactions LIMIT 1").fetchone():
                    console.print("Going on with the data that is there.")
                    return
            self._simulator = Simulator(self._regime, seed=HISTORY_SEED, start=self.start)
        began = utc_now()
        landed = land_history(self._database_url, self._simulator, window_start(utc_now() + LIVE_WITHIN))
        if landed:
            console.print(f"Landed {landed:,} transactions of simulated history in {(utc_now() - began).seconds} s.")
