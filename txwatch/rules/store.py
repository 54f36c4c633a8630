"""Rules in Postgres: every version of each, which of them hold now, and which held at a moment.

A change adds a version, which holds from that moment of the database's clock for what lands afterwards. Nothing that
was matched or sent changes with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from psycopg.types.json import Jsonb

from txwatch.errors import UserError
from txwatch.foreign import one_line
from txwatch.people.changes import record_change
from txwatch.rules.document import Fault, Placed, Plain, RuleError, plain, read_plain
from txwatch.rules.evaluate import RuleSet
from txwatch.rules.look_ups import LookUps
from txwatch.rules.parse import parse_rule
from txwatch.rules.rule import Mode, Rule
from txwatch.store.database import Connection, read_rows, scalar, statement
from txwatch.store.locks import Lock, wait_for

log = structlog.get_logger(__name__)
MOST_RULES = 200
"""By name, those that are off among them."""
OURSELVES = "txwatch"
"""Who switched a rule off that could not be followed."""


class NoSuchRuleError(UserError, LookupError):
    """No rule has this name."""


@dataclass(frozen=True)
class StoredRule:
    """One version of a rule as it is kept. `reason` says why txwatch itself switched it off."""

    name: str
    version: int
    document: Plain
    mode: Mode
    changed_at: datetime
    changed_by: str
    reason: str | None

    def rule(self) -> Rule:
        """The rule. Raises RuleError, for what can be compared changes with the contract."""
        return replace(parse_rule(read_plain(self.document), self.version), mode=self.mode)


def add_rule(connection: Connection, document: Placed, by: str) -> StoredRule:
    """Add a rule, or a version of the one of its name. Raises RuleError.

    Without a mode of its own it has that of the version before, and the first one is off. The same again changes
    nothing.
    """
    rule = parse_rule(document)
    kept = plain(document)
    names_mode = isinstance(kept, dict) and kept.pop("mode", None) is not None
    with connection.transaction():
        wait_for(connection, Lock.RULES)
        known = {one.name: one for one in list_rules(connection)}
        before = known.get(rule.name)
        if before is None and len(known) >= MOST_RULES:
            raise RuleError([Fault("", f"there are {MOST_RULES} rules, which is the most")])
        mode = rule.mode if names_mode or before is None else before.mode
        if before is not None and (before.document, before.mode) == (kept, mode):
            return before
        return _add(connection, rule.name, kept, mode, by)


def set_mode(connection: Connection, name: str, mode: Mode, by: str, reason: str | None = None) -> StoredRule:
    """Give a rule another mode. Raises NoSuchRuleError; and RuleError, for one that cannot be followed stays off."""
    with connection.transaction():
        wait_for(connection, Lock.RULES)
        before = read_rule(connection, name)
        if mode != "off":
            before.rule()
        if before.mode == mode:
            return before
        return _add(connection, name, before.document, mode, by, reason)


def switch_off(connection: Connection, name: str, cause: str) -> None:
    """Switch off a rule that cannot be followed, in the caller's transaction, and keep why."""
    log.error("rule_switched_off", rule=name, cause=cause)
    set_mode(connection, name, "off", OURSELVES, cause)


def _add(
    connection: Connection, name: str, document: Plain, mode: Mode, by: str, reason: str | None = None
) -> StoredRule:
    given = {"name": name, "document": Jsonb(document), "mode": mode, "by": by, "reason": reason}
    [added] = read_rows(connection, StoredRule, statement("rules", "add_version"), given)
    record_change(connection, by, "rules", name, f"version {added.version}", added.changed_at, reason or mode)
    return added


def list_rules(connection: Connection) -> list[StoredRule]:
    """The newest version of each rule, by name."""
    return read_rows(connection, StoredRule, statement("rules", "newest_versions"))


def read_rule(connection: Connection, name: str) -> StoredRule:
    """The newest version of a rule. Raises NoSuchRuleError."""
    return read_history(connection, name)[0]


def read_history(connection: Connection, name: str) -> list[StoredRule]:
    """All versions of a rule, the newest first. Raises NoSuchRuleError."""
    query = (
        "SELECT name, version, document, mode, changed_at, changed_by, reason FROM rules WHERE name = %s"
        " ORDER BY version DESC"
    )
    versions = read_rows(connection, StoredRule, query, [name])
    if not versions:
        raise NoSuchRuleError(f"There is no rule {name}.")
    return versions


@dataclass(frozen=True)
class MatchCounts:
    """What became of a rule's matches of a day."""

    alerts: int = 0
    tested: int = 0
    held_back: int = 0


def count_matches(connection: Connection, now: datetime) -> dict[str, MatchCounts]:
    """The matches of the last day, by rule; rules without any are absent."""
    rows = connection.execute(statement("rules", "matches_of_a_day"), {"now": now})
    return {name: MatchCounts(*counts) for name, *counts in rows}


@dataclass(frozen=True)
class InForce:
    """A rule, and the time for which it holds: of what landed at or after `since`, and before `until`."""

    rule: Rule
    since: datetime
    until: datetime | None


def rules_since(connection: Connection, moment: datetime) -> list[InForce]:
    """The versions that hold, or held, at or after a moment; those that can no longer be followed are left out."""
    found = []
    for name, version, document, mode, since, until in connection.execute(
        statement("rules", "versions_since"), {"moment": moment}
    ):
        rule = _followable(StoredRule(name, version, document, mode, since, "", None))
        if isinstance(rule, Rule):
            found.append(InForce(rule, since, until))
    return found


def _followable(stored: StoredRule) -> Rule | str:
    """The rule, or why it cannot be followed. Whatever is wrong with one must not stop the others."""
    try:
        return stored.rule()
    except Exception as error:
        return str(error) if isinstance(error, RuleError) else one_line(f"{type(error).__name__}: {error}")


@dataclass
class CurrentRules:
    """Gives the rules that hold now, prepared, and where they look things up. Read again when one has changed."""

    _read: tuple[Connection, int, RuleSet, LookUps] | None = field(default=None, init=False, repr=False)

    def __call__(self, connection: Connection) -> tuple[RuleSet, LookUps]:
        """The rules, in the caller's transaction: a stored one that is broken is switched off, with its reason.

        Raises psycopg.OperationalError when the database is away.
        """
        # Rows are only added: their number tells each change.
        changes = scalar(connection, "SELECT count(*) FROM rules")
        if self._read is None or self._read[0] is not connection or self._read[1] != changes:
            rules = _whole(connection, [one for one in list_rules(connection) if one.mode != "off"])
            self._read = (connection, changes, RuleSet(rules), LookUps.stored(connection))
        return self._read[2:]


def _whole(connection: Connection, stored: Sequence[StoredRule]) -> list[Rule]:
    rules = []
    for one in stored:
        rule = _followable(one)
        if isinstance(rule, Rule):
            rules.append(rule)
        else:
            switch_off(connection, one.name, rule)
    return rules
