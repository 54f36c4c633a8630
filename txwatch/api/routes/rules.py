"""Rules of users: read them, check and try one, add a version, and switch it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, ConfigDict

from txwatch.api.access import KeyFirst, Manager, MayManage
from txwatch.api.problems import FieldError, ProblemError, documented
from txwatch.api.routes.parameters import Database, LongTurn
from txwatch.clock import utc_now
from txwatch.rules.document import RuleError, read_plain
from txwatch.rules.dry_run import MOST_DAYS, DryRun, dry_run
from txwatch.rules.parse import parse_rule
from txwatch.rules.rule import NAME, Mode
from txwatch.rules.store import (
    MatchCounts,
    NoSuchRuleError,
    StoredRule,
    add_rule,
    count_matches,
    list_rules,
    read_history,
    read_rule,
    set_mode,
)

router = APIRouter(prefix="/v1", tags=["rules"], route_class=KeyFirst)
MOST_SECONDS = 20.0
"""Of a dry run: it holds one of the connections that requests share."""
_EXAMPLE = {
    "name": "large-into-exchange",
    "text": "Large transfer into an exchange",
    "severity": "high",
    "mode": "test",
    "channels": [],
    "alerts_per_hour": 20,
    "when": {"all": ["moved_sat >= 500 BTC", "flow = exchange_in"]},
}
Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="The rule's name.", examples=["high-fee"])]
Document = Annotated[
    dict[str, Any],
    Body(
        description="A rule, as in YAML: name, text, severity, `when`, and if wanted mode, channels, alerts_per_hour"
        " and one_alert_within. docs/rules.md has the language.",
        examples=[_EXAMPLE],
    ),
]


@dataclass(frozen=True)
class RuleVersion:
    """One version of a rule. `reason` says why txwatch itself switched it off."""

    name: str
    version: int
    mode: Mode
    document: dict[str, Any]
    changed_at: datetime
    changed_by: str
    reason: str | None

    @classmethod
    def of(cls, stored: StoredRule) -> "RuleVersion":
        """The version as the API gives it."""
        document = stored.document if isinstance(stored.document, dict) else {}
        return cls(
            stored.name, stored.version, stored.mode, document, stored.changed_at, stored.changed_by, stored.reason
        )


@dataclass(frozen=True)
class RuleInList:
    """The newest version of a rule, and what became of its matches of the last day."""

    rule: RuleVersion
    last_day: MatchCounts


@dataclass(frozen=True)
class Checked:
    """A document is a rule, of this name and severity."""

    name: str
    severity: str
    alerts_per_hour: int


@dataclass(frozen=True)
class Tried:
    """What a rule would have raised; figures an hour are of the hours for which there was data."""

    matches_per_hour: float
    alerts_per_hour: float
    run: DryRun


class ModeChange(BaseModel):
    """What becomes of a rule's matches from now on."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode


@contextmanager
def _answered() -> Iterator[None]:
    """Answer with what is wrong in a rule, place by place, or that there is none of the name. Raises ProblemError."""
    try:
        yield
    except NoSuchRuleError as error:
        raise ProblemError(404, str(error)) from error
    except RuleError as error:
        errors = [FieldError(where=f"body.{fault.path}".rstrip("."), message=fault.message) for fault in error.faults]
        raise ProblemError(422, str(error), errors=errors) from error


@router.get("/rules", summary="All rules", responses=documented())
def rules(database: Database) -> list[RuleInList]:
    """The newest version of each, by name, with how many matches of the last day alerted, were tested or held back."""
    counts = count_matches(database, utc_now())
    return [RuleInList(RuleVersion.of(one), counts.get(one.name, MatchCounts())) for one in list_rules(database)]


@router.post("/rules", summary="Add a rule, or a version of it", responses=documented(401, 413))
def add(database: Database, caller: Manager, document: Document) -> RuleVersion:
    """In effect within seconds. A first version is off unless it says otherwise; later ones keep the mode."""
    with _answered():
        return RuleVersion.of(add_rule(database, read_plain(document), caller.who))


@router.post("/rule/check", summary="Check a rule", dependencies=[MayManage], responses=documented(401, 413))
def check(document: Document) -> Checked:
    """Whether a document is a rule; `errors` of the answer name each place, and the nearest right word."""
    with _answered():
        rule = parse_rule(read_plain(document))
    return Checked(rule.name, rule.severity.name, rule.alerts_per_hour)


@router.post(
    "/rule/dry-run",
    summary="Try a rule on the past",
    dependencies=[MayManage, LongTurn],
    responses=documented(401, 413),
)
def try_on_the_past(
    database: Database,
    document: Document,
    days: Annotated[float, Query(gt=0, le=MOST_DAYS, description="How far back from now.")] = 7,
) -> Tried:
    """How many alerts an hour it would have raised, with its cap and without, which, and the ten largest.

    From the newest window back, for twenty seconds: `complete` says whether that was enough.
    """
    with _answered():
        until = time.monotonic() + MOST_SECONDS
        rule = parse_rule(read_plain(document))
        run = dry_run(database, rule, utc_now(), days, is_late=lambda: time.monotonic() > until)
    return Tried(run.matches_per_hour, run.alerts_per_hour, run)


@router.get("/rules/{name}", summary="One rule", responses=documented(404))
def rule(database: Database, name: Name) -> RuleVersion:
    """Its newest version."""
    with _answered():
        return RuleVersion.of(read_rule(database, name))


@router.get("/rules/{name}/history", summary="All versions of a rule", responses=documented(404))
def history(database: Database, name: Name) -> list[RuleVersion]:
    """The newest first, with who changed it."""
    with _answered():
        return [RuleVersion.of(one) for one in read_history(database, name)]


@router.post("/rules/{name}/mode", summary="Switch a rule", responses=documented(401, 404, 413))
def switch(database: Database, caller: Manager, name: Name, change: ModeChange) -> RuleVersion:
    """In effect within seconds, as a version of its own. What it raised stays."""
    with _answered():
        return RuleVersion.of(set_mode(database, name, change.mode, caller.who))
