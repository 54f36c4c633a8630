"""What a run has come to, as JSON and in a few lines."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.accounting import Ledger
from tests.soak.memory import Growth
from tests.soak.messages import Post


@dataclass
class Report:
    """Everything that is asked of a run. `problems` is empty when all is as it must be."""

    minutes: float
    seed: int
    faults: dict[str, int]
    restarts: dict[str, int]
    ledger: Ledger
    post: Post
    memory: list[Growth]
    seconds_to_settle: float
    waited_for_in_vain: list[str]
    left_files: list[str]
    left_temporary: list[str]
    left_processes: list[str]
    runs: dict[str, int]
    problems: dict[str, Any] = field(default_factory=dict)
    moments: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report for people."""
        ledger, post = self.ledger, self.post
        lost = len(ledger.lost) + len(ledger.not_recovered)
        memory = [
            f"  {g.role}: {g.warm:.0f} MiB warm, {g.end:.0f} MiB at the end of {g.lived_seconds / 60:.0f} min"
            for g in self.memory
        ]
        return [
            f"{self.minutes:g} minutes of faults with the seed {self.seed}; settled in {self.seconds_to_settle:.0f} s",
            f"faults: {_counts(self.faults)}",
            f"started again: {_counts(self.restarts)}",
            f"sent: {ledger.sent:,} messages: {ledger.transactions:,} transactions, {ledger.repeated:,} of them"
            f" repeated, {ledger.malformed:,} malformed",
            f"landed: {ledger.from_feed:,} from the feed, {ledger.from_blocks:,} recovered from blocks; never mined and"
            f" missed in a gap: {len(ledger.never_mined)}; lost: {lost}; never sent: {len(ledger.not_sent)};"
            f" changed: {len(ledger.changed)}",
            f"told: {_counts(ledger.sighted)}; told and not noted: {len(ledger.unsighted)}",
            f"quarantined: {ledger.quarantined:,}; malformed and missed in a gap: {len(ledger.unheard_malformed)};"
            f" lost: {len(ledger.lost_malformed)}",
            f"gaps: {_counts(ledger.gaps_by_state)} ({_counts(ledger.gaps_by_cause)})",
            f"alerts: {post.alerts:,}: {post.sent_alone:,} sent alone, {post.digested:,} in {post.digests:,} digests,"
            f" {len(post.uncertain)} uncertain ({post.uncertain_and_arrived} of them arrived), {len(post.dead)} dead;"
            f" {post.messages:,} messages; faults: {post.faults or 'none'}",
            f"runs: {_counts(self.runs)}",
            "memory, proportional share:",
            *memory,
            f"left: processes {self.left_processes}, files {self.left_files}, temporary {self.left_temporary}",
            f"problems: {json.dumps(self.problems, indent=1) if self.problems else 'none'}",
        ]

    def write(self, path: Path) -> None:
        """The JSON to `path`, and the lines beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False, default=str) + "\n")
        path.with_suffix(".txt").write_text("\n".join(self.lines()) + "\n")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
