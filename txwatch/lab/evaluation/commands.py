"""The commands `evaluate`, `evaluate-day` and `backtest`: their options, and what they print."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from txwatch.errors import UserError
from txwatch.places import Place, place
from txwatch.settings import Settings

if TYPE_CHECKING:
    from txwatch.detection.model import Model
    from txwatch.lab.evaluation.backtest import Backtest
    from txwatch.rules.rule import Rule
    from txwatch.store.database import Connection

console = Console(highlight=False, markup=False)
progress = Console(stderr=True, highlight=False, markup=False)
INCOMPLETE = 3
"""Status of a backtest whose answer lacks days."""
CAPTURE = "FILE|s3://BUCKET/KEY"
_FILES = {"--train", "--background", "--positives"}
_FIGURES = ("recall_at_budget_fpr", "recall_at_0_2pct_fpr", "recall_at_1pct_fpr", "average_precision", "auc")


RuleFiles = Annotated[
    list[str] | None, typer.Option(metavar="FILE|NAME", help="A rule to follow as well, as in `txwatch rules`.")
]


class FilesCommand(TyperCommand):
    """Takes several files after one option: `--train a b` is `--train a --train b`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeat_options(args))


def repeat_options(args: Sequence[str]) -> list[str]:
    """The arguments with the option named again before each further file."""
    result: list[str] = []
    option, files = "", 0
    for arg in args:
        if arg.startswith("--"):
            option, files = arg.partition("=")[0], int("=" in arg)
        elif option in _FILES:
            if files:
                result.append(option)
            files += 1
        result.append(arg)
    return result


def evaluate(
    train: Annotated[list[str] | None, typer.Option(metavar=CAPTURE, help="Captures to train on.")] = None,
    background: Annotated[list[str] | None, typer.Option(metavar=CAPTURE, help="Captures of ordinary traffic.")] = None,
    positives: Annotated[
        list[str] | None, typer.Option(metavar=CAPTURE, help="Captures of what must be found, by label.")
    ] = None,
    regime: Annotated[str, typer.Option(help="Simulated traffic, when no captures are given.")] = "2024-03",
    train_hours: Annotated[float, typer.Option(help="Hours of simulated traffic to train on.")] = 3.0,
    hours: Annotated[
        float, typer.Option(help="Hours of it to measure on: 5.5 are 100,000 transactions, enough for the budget.")
    ] = 3.0,
    detectors: Annotated[
        bool, typer.Option("--detectors", help="Compare other detectors on the same rows instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Every figure of merit, beside the recipe of four raw features. Without captures, on simulated traffic."""
    from txwatch.lab.evaluation.detectors import captured, compare_detectors, simulated
    from txwatch.lab.evaluation.evaluate import Options, evaluate_captures, evaluate_simulated
    from txwatch.lab.evaluation.examination import feedback_figures
    from txwatch.lab.evaluation.replay import read_labelled

    settings = Settings()
    database_url = settings.database_url.get_secret_value() if settings.database_url else None
    options = Options(alerts_per_hour=settings.alerts_per_hour, whale_btc=settings.whale_btc)
    given = [train, background, positives]
    if train and background and positives:
        train_on, ordinary, wanted = (read_labelled(_existing(paths)) for paths in (train, background, positives))
        if detectors:
            _print_compared(compare_detectors(captured(train_on, ordinary, wanted, options), options), as_json)
            return
        result = evaluate_captures(train_on, ordinary, wanted, options)
    elif not any(given):
        train_for, measure_for = timedelta(hours=train_hours), timedelta(hours=hours)
        if detectors:
            material = simulated(regime, options, train_for=train_for, measure_for=measure_for)
            _print_compared(compare_detectors(material, options), as_json)
            return
        result = evaluate_simulated(regime, options, train_for=train_for, measure_for=measure_for)
    else:
        raise UserError("--train, --background and --positives go together: name captures for all three, or for none.")
    result["feedback"] = feedback_figures(database_url)
    if as_json:
        print(json.dumps(result))
        return
    for title in ("labels", "planted"):
        if title in result:
            console.print(_figures_table(title, result[title]))
    console.print(_explanations_table(result["explanations"]))
    _print_feedback(result["feedback"])
    printed = {"labels", "planted", "explanations", "feedback"}
    console.print_json(json.dumps({key: result[key] for key in result if key not in printed}))


def backtest(
    models: Annotated[str, typer.Option(help="Versions or aliases, such as champion,challenger.")],
    capture: Annotated[str | None, typer.Option(metavar=CAPTURE, help="The capture to replay.")] = None,
    days: Annotated[
        str | None,
        typer.Option(metavar="FROM..TO", help="Archived days instead, both included: 2024-03-01..2024-03-31."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Days at a time: each takes a core and half a GB. As many as cores.")
    ] = None,
    rule: RuleFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """The alerts of model versions on one capture or on archived days, and their difference. Sends nothing.

    What was computed of a day is kept: the next time, and in runs of the job `backtest`, it is there. Days that cannot
    be read are named; then the command ends with 3.
    """
    from txwatch.detection.registry import ModelRegistry
    from txwatch.store.cluster import url_beside
    from txwatch.store.database import connect

    if (capture is None) == (days is None):
        raise UserError("Name a --capture, or --days.")
    if days is not None and rule:
        raise UserError("--rule goes with --capture: `txwatch rules dry-run` tries a rule on what is stored.")
    settings = Settings()
    database_url = url_beside(settings)
    registry = ModelRegistry.of(settings.home, database_url, settings.mlflow_tracking_uri)
    loaded = [registry.named(name.strip()) for name in models.split(",")]
    notes: list[str] = []
    if days is not None:
        result = _of_days(settings, database_url, _days(days), loaded, processes, notes)
    else:
        with connect(database_url, application="txwatch backtest") as connection:
            result = _of_capture(connection, settings, capture or "", loaded, _rules(rule))
    _print_backtest(result, as_json, notes)
    raise typer.Exit(INCOMPLETE if notes else 0)


def _of_capture(
    connection: "Connection", settings: Settings, capture: str, models: Sequence["Model"], rules: "tuple[Rule, ...]"
) -> "Backtest":
    from txwatch.lab.evaluation.backtest import backtest as replayed
    from txwatch.lab.evaluation.replay import read_labelled
    from txwatch.labels.store import KnownAddresses
    from txwatch.rules.look_ups import LookUps
    from txwatch.store.prices import StoredPrices

    return replayed(
        read_labelled(_existing([capture])),
        models,
        whale_btc=settings.whale_btc,
        whale_usd=settings.whale_usd,
        price_of=StoredPrices(connection),
        known=KnownAddresses.stored(connection),
        rules=rules,
        look_ups=LookUps.stored(connection),
    )


def _of_days(
    settings: Settings,
    database_url: str,
    days: Sequence[date],
    models: Sequence["Model"],
    processes: int | None,
    notes: list[str],
) -> "Backtest":
    """What days that can be read give; `notes` gets the others."""
    from joblib import cpu_count  # what a container or `taskset` leaves

    from txwatch.archive.manifest import archive_of
    from txwatch.lab.evaluation.backtest_days import together
    from txwatch.lab.evaluation.backtest_processes import DayBacktest, try_days

    archive = archive_of(settings)
    if archive is None:
        raise UserError("TXWATCH_ARCHIVE is not set: there are no archived days.")
    tried = DayBacktest(database_url, archive, models, settings.whale_btc, settings.whale_usd)
    outcomes = []
    for day, found in try_days(tried, days, processes or cpu_count()):
        if isinstance(found, str):
            notes.append(f"{found}: the day is left out.")
            continue
        outcomes.append(found)
        alerting = ", ".join(f"{len(one.unusual)} by version {one.model_version}" for one in found)
        progress.print(f"{day}: {found[0].transactions:,} transactions, unusual are {alerting}.")
    if not outcomes:
        raise UserError("\n".join(notes))
    return together(outcomes)


def _days(text: str) -> list[date]:
    """The days from the first to the last one, both included. Raises UserError."""
    first, separator, last = text.partition("..")
    try:
        since, until = date.fromisoformat(first), date.fromisoformat(last if separator else first)
    except ValueError:
        raise UserError(f"{text!r} names no days: write 2024-03-01..2024-03-31, or one day.") from None
    if until < since:
        raise UserError(f"{text!r} ends before it begins.")
    return [since + timedelta(days=n) for n in range((until - since).days + 1)]


def _print_backtest(result: "Backtest", as_json: bool, notes: Sequence[str]) -> None:
    for note in notes:
        progress.print(note, soft_wrap=True)
    figures = result.as_dict()
    if as_json:
        print(json.dumps(figures))
        return
    console.print(f"{result.transactions:,} transactions in {result.hours:.1f} hours; {result.common()} common alerts.")
    for version, of_model in figures["models"].items():
        console.print(f"Version {version}: {of_model['alerts']} alerts, {of_model['kinds']}")
        for score in of_model["only"]:
            console.print(f"  only here: {score['txid'][:16]}  {score['score']:.3f}  {'; '.join(score['reasons'])}")


def evaluate_day(
    hours: Annotated[float, typer.Option(help="How long the day is.")] = 24.0,
    train_hours: Annotated[float, typer.Option(help="Hours before it, which the model is trained on.")] = 24.0,
    warm_hours: Annotated[float, typer.Option(help="Hours before that, which fill the trailing day.")] = 24.0,
    regime: Annotated[str, typer.Option(help="2024-03, 2024-10 or 2025-07.")] = "2024-03",
    rate: Annotated[float | None, typer.Option(help="Transactions a second; the regime's own by default.")] = None,
    rule: RuleFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """A simulated day through scoring, alerts and planned messages, and the same day without plants.

    Prints for each day: transactions, alerts and messages, the forest's alerts an hour beside their budget, planted fee
    accidents and whales that did not reach the chat, and for each kind how many were found, alerted, sent alone or in
    digests, how long after (99 %), precision and recall. Needs no database and no network, and takes minutes. Exit
    status 1 if a planted fee accident or whale was not delivered.
    """
    from txwatch.lab.evaluation.day import DayOptions
    from txwatch.lab.evaluation.day import evaluate_day as simulated

    settings = Settings()
    options = DayOptions(
        regime,
        hours,
        train_hours,
        warm_hours,
        rate,
        settings.alerts_per_hour,
        settings.whale_btc,
        rules=_rules(rule),
    )
    result = simulated(options)
    if as_json:
        print(json.dumps(result))
    else:
        for name in ("with_plants", "without_plants"):
            _print_day(name.replace("_", " "), result[name])
    raise typer.Exit(1 if result["with_plants"]["undelivered"] else 0)


def _rules(named: Sequence[str] | None) -> "tuple[Rule, ...]":
    """The rules in these files, or shipped under these names. Raises UserError."""
    from txwatch.rules.commands import read_rule_file
    from txwatch.rules.parse import parse_rule

    return tuple(parse_rule(read_rule_file(one)) for one in named or ())


def _print_day(name: str, day: dict[str, Any]) -> None:
    console.print(
        f"{day['hours']:g} hours {name}: {day['transactions']:,} transactions, {day['alerts']} alerts in"
        f" {day['messages']} messages; the forest's are {day['forest_alerts_per_hour']:.1f} an hour of"
        f" {day['budget']:g}; {len(day['undelivered'])} planted fee accidents and whales did not arrive"
    )
    columns = ("found", "alerts", "sent_alone", "in_digests", "sent_after_s_p99", "planted", "recall", "precision")
    table = Table("kind", *(column.replace("_", " ") for column in columns))
    for kind, figures in day["kinds"].items():
        table.add_row(kind, *(_cell(figures.get(column)) for column in columns))
    console.print(table)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _existing(captures: Sequence[str]) -> list[Place]:
    from txwatch.captures import existing_capture

    return [existing_capture(place(capture)) for capture in captures]


def _figures_table(title: str, labels: dict[str, Any]) -> Table:
    columns = ("label", "n", *(name.replace("_", " ") for name in _FIGURES))
    table = Table(*columns, title=f"{title}: the model (and the recipe of four raw features)")
    for label, figures in labels.items():
        cells = (f"{figures[name]:.3f} ({figures['baseline'][name]:.3f})" for name in _FIGURES)
        table.add_row(label, str(figures["n"]), *cells)
    return table


def _explanations_table(kinds: dict[str, Any]) -> Table:
    columns = {
        "n": "planted",
        "unusual": "unusual",
        "first": "cause is reason 1",
        "first_three": "in the first 3",
        "removal_area": "removal area",
        "random_area": "in random order",
    }
    table = Table("kind", *columns.values(), title="explanations of planted anomalies")
    for label, figures in kinds.items():
        table.add_row(label.partition(":")[2], *(_cell(figures[name]) for name in columns))
    return table


def _print_compared(compared: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(compared))
        return
    detectors: dict[str, Any] = compared["detectors"]
    rates = {
        "recall_at_budget_fpr": "at the budget",
        "recall_at_0_2pct_fpr": "at 0.2 %",
        "recall_at_1pct_fpr": "at 1 %",
    }
    for group, of_first in next(iter(detectors.values()))["groups"].items():
        means = Table("detector", *rates.values(), title=f"{group}: mean recall, and where it is with 95 %")
        names = [name.partition(":")[2] for name in of_first["labels"]]
        labels = Table("detector", *names, title=f"{group}: recall at 0.2 % false positives")
        for name, figures in detectors.items():
            of_group = figures["groups"][group]
            means.add_row(name, *(_with_interval(of_group["mean"], rate) for rate in rates))
            labels.add_row(name, *(f"{label['recall_at_0_2pct_fpr']:.2f}" for label in of_group["labels"].values()))
        console.print(means, labels)
    costs = Table("detector", "CPU, us a row at 32", "at 1,000", "MB", "seed agreement", title="what it costs")
    for name, figures in detectors.items():
        microseconds = (f"{value:.1f}" for value in figures["microseconds"].values())
        costs.add_row(name, *microseconds, f"{figures['bytes'] / 1e6:.2f}", f"{figures['seed_agreement']:.2f}")
    console.print(costs)
    if compared["left_out"]:
        console.print(f"Left out, for PyOD is not installed: {', '.join(compared['left_out'])}.")
    console.print_json(json.dumps(compared["data"]))


def _with_interval(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    return f"{figures[name]:.2f} ({low:.2f} to {high:.2f})"


def _print_feedback(feedback: dict[str, Any]) -> None:
    if feedback["note"]:
        console.print(f"No precision from people's answers: {feedback['note']}.")
        return
    columns = ("kind", "model_version", "judged", "useful", "precision")
    table = Table("detector", *(name.replace("_", " ") for name in columns[1:]), title="precision by people's answers")
    for one in feedback["judged"]:
        table.add_row(*(x if isinstance(x := one[name], str) else _cell(x) for name in columns))
    console.print(table)
