"""Runs the measurements, prints a table, and writes benchmarks/results.json."""

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.harness import Bench, Measurement
from txwatch.store.cluster import embedded_postgres

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    modules = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="modules of this package; default all")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work, to see whether it runs")
    options = parser.parse_args()
    if unknown := set(options.names) - set(modules):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    console = Console(stderr=True, highlight=False)
    measured = []
    with tempfile.TemporaryDirectory(prefix="txwatch-bench-") as folder, embedded_postgres(Path(folder)) as url:
        bench = Bench(url, Path(folder), options.quick)
        for measurement in measure(bench, options.names or modules, console):
            measured.append(measurement)
            console.print(f"  {measurement.name}: {measurement.value:,.4g} {measurement.unit}")
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(as_table(measured))
    if not options.quick:
        write(RESULTS, measured)
    return 0 if all(measurement.met for measurement in measured) else 1


def measure(bench: Bench, names: Iterable[str], console: Console) -> Iterator[Measurement]:
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "measure"):
            console.print(f"[bold]{name}[/bold]")
            yield from module.measure(bench)


def as_table(measured: Iterable[Measurement]) -> Table:
    """One row for each figure, with its ratios and its goal."""
    table = Table("measurement", "value", "unit", "x baseline", "x limit", "goal", "", "compared", box=None)
    for m in measured:
        goal = f">= {m.at_least:,.4g}" if m.at_least is not None else f"<= {m.at_most:,.4g}" if m.at_most else ""
        verdict = ("[green]met[/green]" if m.met else "[red]missed[/red]") if goal else ""
        table.add_row(
            m.name, f"{m.value:,.4g}", m.unit, ratio(m.value, m.baseline), ratio(m.value, m.limit), goal, verdict, m.why
        )
    return table


def ratio(value: float, other: float | None) -> str:
    return f"{value / other:.2f}" if other else ""


def write(path: Path, measured: Iterable[Measurement]) -> None:
    """Write the figures over those of the same names; the others stay."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= {m.name: m.as_result() for m in measured}
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
