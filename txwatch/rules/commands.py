"""The commands `txwatch rules`: check, try on the past, add, and switch."""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from txwatch.clock import utc_now
from txwatch.errors import UserError
from txwatch.people.changes import shell_user
from txwatch.settings import Settings
from txwatch.store.cluster import url_beside
from txwatch.store.database import Connection, connect

if TYPE_CHECKING:
    from txwatch.rules.document import Placed
    from txwatch.rules.dry_run import DryRun
    from txwatch.rules.rule import Mode
    from txwatch.rules.store import StoredRule

rules = typer.Typer(no_args_is_help=True, help="Rules of your own: what you want to hear of, and how often.")
console = Console(highlight=False, markup=False)
SHIPPED = Path(__file__).with_name("shipped")
"""Rules that come with txwatch. They are off until they are added and switched on."""

File = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file (.yaml), or the name of a shipped rule.")]
Name = Annotated[str, typer.Argument(help="The name of a rule.")]
AsJson = Annotated[bool, typer.Option("--json", help="As one JSON object.")]


def _connected() -> AbstractContextManager[Connection]:
    return connect(url_beside(Settings()), application="txwatch rules")


def shipped_names() -> list[str]:
    """The names of the shipped rules."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_rule_file(named: str) -> "Placed":
    """The document in a file, or in the shipped rule of this name. Raises UserError."""
    from txwatch.rules.document import read_yaml
    from txwatch.rules.terms import nearest

    path = Path(named)
    if not path.is_file():
        path = SHIPPED / f"{named}.yaml"
        if named not in shipped_names():
            meant = nearest(named, shipped_names()) or f"; shipped rules are {', '.join(shipped_names())}"
            raise UserError(f"There is no file `{named}`{meant}")
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: it is no UTF-8.") from error


@rules.command()
def check(file: File) -> None:
    """Read a rule and say what is wrong in it, or what it would do. Needs no database."""
    from txwatch.rules.parse import parse_rule
    from txwatch.rules.rule import leaves

    rule = parse_rule(read_rule_file(file))
    channels = f", to {', '.join(rule.channels)}" if rule.channels else ""
    comparisons = len(leaves(rule.when))
    console.print(
        f"{rule.name} is a rule of {comparisons} {'comparison' if comparisons == 1 else 'comparisons'}:"
        f" {rule.severity.name}, {rule.mode}, at most {rule.alerts_per_hour} alerts an hour{channels}.",
        soft_wrap=True,
    )


@rules.command("dry-run")
def try_on_the_past(
    file: File,
    days: Annotated[float, typer.Option(help="How far back from now.", min=0.01, max=92)] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Say what a rule would have raised: how many alerts an hour, which, and the ten largest. Writes nothing."""
    from txwatch.rules.dry_run import dry_run
    from txwatch.rules.parse import parse_rule

    rule = parse_rule(read_rule_file(file))
    with _connected() as connection:
        run = dry_run(connection, rule, utc_now(), days)
    if as_json:
        print(json.dumps(asdict(run), default=str))
        return
    _print_dry_run(run, rule.alerts_per_hour)


@rules.command()
def add(file: File) -> None:
    """Add a rule, or a new version of the one of its name. A first version is off unless the file says otherwise."""
    from txwatch.rules.store import add_rule

    document = read_rule_file(file)
    with _connected() as connection:
        added = add_rule(connection, document, shell_user())
    hint = f" `txwatch rules enable {added.name}` switches it on." if added.mode == "off" else ""
    console.print(f"{added.name} has version {added.version}, and is {added.mode}.{hint}", soft_wrap=True)


@rules.command("list")
def show_all(as_json: AsJson = False) -> None:
    """All rules, with what became of their matches of the last day, and the shipped ones that were not added."""
    from txwatch.rules.store import MatchCounts, count_matches, list_rules
    from txwatch.store.prices import price_at

    now = utc_now()
    with _connected() as connection:
        stored, counts, price = list_rules(connection), count_matches(connection, now), price_at(connection, now)
    if as_json:
        print(json.dumps([asdict(one) | asdict(counts.get(one.name, MatchCounts())) for one in stored], default=str))
        return
    table = Table("rule", "version", "mode", "alerts", "in test", "held back", "changed", "by", "")
    for one in stored:
        of_day = counts.get(one.name, MatchCounts())
        figures = (f"{n:,}" for n in (of_day.alerts, of_day.tested, of_day.held_back))
        table.add_row(one.name, str(one.version), one.mode, *figures, *_changed(one))
    console.print(table)
    console.print("Alerts, matches in test and what a cap held back are of the last day.")
    if missing := sorted(set(shipped_names()) - {one.name for one in stored}):
        console.print(f"Shipped, and not added: {', '.join(missing)}.", soft_wrap=True)
    if price is None:
        console.print("There is no price of a bitcoin just now: comparisons in USD are false.", soft_wrap=True)


@rules.command()
def enable(name: Name) -> None:
    """Let a rule alert. In effect within seconds."""
    _switch(name, "active")


@rules.command("test")
def only_record(name: Name) -> None:
    """Let a rule record what it matches, and send nothing."""
    _switch(name, "test")


@rules.command()
def disable(name: Name) -> None:
    """Switch a rule off. What it raised stays."""
    _switch(name, "off")


@rules.command()
def history(name: Name) -> None:
    """Every version of a rule, the newest first, with who changed it and what it said."""
    from txwatch.rules.store import read_history

    with _connected() as connection:
        versions = read_history(connection, name)
    for one in versions:
        moment, who, why = _changed(one)
        console.print(f"version {one.version}, {one.mode}, {moment} by {who}{': ' if why else ''}{why}", soft_wrap=True)
        console.print(f"  {json.dumps(one.document, ensure_ascii=False)}", soft_wrap=True)


def _switch(name: str, mode: "Mode") -> None:
    from txwatch.rules.store import set_mode

    with _connected() as connection:
        changed = set_mode(connection, name, mode, shell_user())
    console.print(f"{name} is {changed.mode}, by version {changed.version}.", soft_wrap=True)


def _changed(stored: "StoredRule") -> tuple[str, str, str]:
    return f"{stored.changed_at:%Y-%m-%d %H:%M:%S}", stored.changed_by, stored.reason or ""


def _print_dry_run(run: "DryRun", cap: int) -> None:
    if not run.hours_with_data:
        console.print("There is nothing to try it on: no window of that time has features yet.", soft_wrap=True)
        return
    console.print(
        f"There is data for {run.hours_with_data:,.1f} of the {run.hours:,.1f} hours until"
        f" {run.until:%Y-%m-%d %H:%M} UTC."
    )
    if run.without_price:
        console.print(f"In {run.without_price:,} windows there was no price: comparisons in USD were false.")
    for said in run.never_true:
        console.print(f"{said}.", soft_wrap=True)
    console.print(
        f"{run.matches:,} matches, {run.matches_per_hour:.2f} an hour; with the cap of {cap} an hour"
        f" {run.alerts:,} alerts, {run.alerts_per_hour:.2f} an hour."
    )
    if not run.matches:
        return
    busiest = max(run.by_hour, key=lambda hour: hour.matches)
    console.print(f"The busiest hour began at {busiest.since:%Y-%m-%d %H:%M} UTC, with {busiest.matches:,} matches.")
    console.print("The largest:")
    _print_matches((f"{one.seen_at:%m-%d %H:%M:%S}", one.txid, one.text) for one in run.largest)
    console.print(f"The newest {len(run.newest)}:")
    _print_matches((f"{one.seen_at:%m-%d %H:%M:%S}", one.txid, one.text) for one in run.newest)


def _print_matches(rows: Iterable[tuple[str, str, str]]) -> None:
    for moment, txid, text in rows:
        console.print(f"  {moment}  {txid[:16]}…  {text}", soft_wrap=True)
