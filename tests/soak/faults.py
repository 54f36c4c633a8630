"""What goes wrong and when: a schedule that the same seed gives again."""

import random
from dataclasses import dataclass

FEED = ("feed_reset", "feed_closed", "feed_half_open", "feed_refused")
DATABASE = ("database_restarted", "database_crashed")
TELEGRAM = (
    "telegram_away",
    "telegram_500",
    "telegram_429",
    "telegram_bad_gateway",
    "telegram_accepts_then_is_silent",
    "telegram_accepts_then_hangs_up",
    "telegram_accepts_then_garbles",
)
KILLS = ("worker_killed", "deliverer_killed", "run_killed", "code_server_killed", "daemon_killed")
ALL = (*FEED, *DATABASE, *TELEGRAM, *KILLS)
RARE = frozenset({"code_server_killed", "daemon_killed", "database_restarted", "database_crashed", "feed_half_open"})
"""Each costs the system half a minute or more, so that a third as many leave it time to work."""
LEFT_ALONE = 0.6
"""From this share of the time on nothing is killed: what lives on must show that its memory stays flat."""
SECONDS_BETWEEN = 75.0
"""Between faults, on average, where there is time for more than one of each."""


@dataclass(frozen=True, order=True)
class Fault:
    """One fault, in seconds since the beginning. `seconds` is how long it lasts, where it lasts."""

    at: float
    name: str
    seconds: float


def schedule(seconds: float, seed: int) -> list[Fault]:
    """The faults of a run of this length: each at least once, at random moments, kills within LEFT_ALONE of it."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    count = max(len(ALL), int(seconds / SECONDS_BETWEEN))
    names = list(ALL)
    weights = [1 if name in RARE else 3 for name in ALL]
    names += chance.choices(ALL, weights, k=count - len(ALL))
    faults = []
    for name in names:
        last = LEFT_ALONE if name in KILLS else 1.0
        faults.append(Fault(chance.uniform(0, last * seconds), name, chance.uniform(5, 20)))
    return sorted(faults)
