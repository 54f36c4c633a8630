"""The memory of the processes that live long, sampled beside a run, and how much each has grown."""

from dataclasses import dataclass, field
from statistics import median
from time import time

import psutil

SAMPLE_SECONDS = 20.0
MEBIBYTE = 1 << 20


@dataclass
class Life:
    """What one process used, in MiB by its age in seconds: its proportional share, without what others share."""

    role: str
    pid: int
    ages: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.ages[-1] if self.ages else 0.0


@dataclass(frozen=True)
class Growth:
    """One life from a quarter of it to its end, each the median of some samples, in MiB."""

    role: str
    lived_seconds: float
    warm: float
    end: float

    @property
    def mebibytes(self) -> float:
        return self.end - self.warm


def growth(life: Life) -> Growth:
    """From the eighth of a life that follows its first quarter to its last eighth."""
    quarter, last = life.seconds / 4, life.seconds * 7 / 8
    warm = [used for age, used in zip(life.ages, life.used, strict=True) if quarter <= age <= 1.5 * quarter]
    end = [used for age, used in zip(life.ages, life.used, strict=True) if age >= last]
    return Growth(life.role, life.seconds, median(warm or life.used), median(end or life.used))


class Memory:
    """Samples of processes, by role."""

    def __init__(self) -> None:
        self._lives: dict[tuple[str, int], Life] = {}

    def sample(self, pids: dict[str, int]) -> None:
        """Take one sample of each of these processes."""
        for role, pid in pids.items():
            try:
                process = psutil.Process(pid)
                age, used = time() - process.create_time(), process.memory_full_info().pss / MEBIBYTE
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            life = self._lives.setdefault((role, pid), Life(role, pid))
            life.ages.append(age)
            life.used.append(used)

    def longest_lives(self) -> list[Growth]:
        """Of each role, the process that lived the longest."""
        longest: dict[str, Life] = {}
        for life in self._lives.values():
            if life.role not in longest or life.seconds > longest[life.role].seconds:
                longest[life.role] = life
        return [growth(life) for life in longest.values()]
