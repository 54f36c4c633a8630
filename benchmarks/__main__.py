"""Runs the measurements, prints a table, and writes the figures into docs/measurements.md."""

import argparse
import importlib
import pkgutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks import record
from benchmarks.harness import Bench, Measurement, number
from txwatch.store.cluster import embedded_postgres


def main() -> int:
    modules = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="modules of this package; default all")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work, to see whether it runs")
    parser.add_argument(
        "--days", type=int, default=30, help="days of `month`, which takes minutes for each; default 30"
    )
    parser.add_argument("--baseline-checkout", type=Path, help="another checkout, which at_rest compares with")
    options = parser.parse_args()
    # A signal ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if unknown := set(options.names) - set(modules):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    console = Console(stderr=True, highlight=False)
    measured: dict[str, list[Measurement]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="txwatch-bench-") as folder, embedded_postgres(Path(folder)) as url:
        bench = Bench(url, Path(folder), options.quick, options.days, options.baseline_checkout)
        for name, measurement in measure(bench, options.names or modules, console):
            measured[name].append(measurement)
            console.print(f"  {measurement.name}: {number(measurement.value)} {measurement.unit}")
    figures = [measurement for found in measured.values() for measurement in found]
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(as_table(figures))
    if not options.quick:
        record.keep(measured)
    return 0 if all(measurement.met for measurement in figures) else 1


def measure(bench: Bench, names: Iterable[str], console: Console) -> Iterator[tuple[str, Measurement]]:
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "measure"):
            console.print(f"[bold]{name}[/bold]")
            for measurement in module.measure(bench):
                yield name, measurement


def as_table(measured: Iterable[Measurement]) -> Table:
    """One row for each figure, with its ratios and its goal."""
    table = Table("measurement", "value", "unit", "x baseline", "x limit", "goal", "", "compared", box=None)
    for m in measured:
        verdict = ("[green]met[/green]" if m.met else "[red]missed[/red]") if m.goal else ""
        table.add_row(m.name, number(m.value), m.unit, m.over_baseline, m.over_limit, m.goal, verdict, m.why)
    return table


if __name__ == "__main__":
    sys.exit(main())
