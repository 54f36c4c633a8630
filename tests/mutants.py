"""Changes the code in small ways and sees whether the tests notice: `make mutants`.

mutmut makes the changes, in a copy under `mutants/`, and runs for each the tests that reach the changed function: one
after the other, on one database, since making that takes longer than most of these tests.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.databases import GIVEN_DATABASE, copied_database, database_server

MUTMUT = str(Path(sys.executable).parent / "mutmut")
COPY = Path("mutants")


def run(names: list[str]) -> int:
    """Try these mutants again, or with no names all of them from the beginning."""
    if not names:
        shutil.rmtree(COPY, ignore_errors=True)
    with TemporaryDirectory(prefix="txwatch-mutants-") as home, database_server(Path(home)) as url:
        given = {GIVEN_DATABASE: copied_database(url, "template_txwatch")}
        command = [MUTMUT, "run", "--max-children=1", *names]
        return subprocess.run(command, env=os.environ | given, check=False).returncode


def figures() -> str:
    """How many mutants of each module were noticed, and the names of those that were not."""
    listing = subprocess.run([MUTMUT, "results", "--all=true"], check=True, capture_output=True, text=True).stdout
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    left = []
    for line in listing.splitlines():
        name, _, outcome = line.strip().rpartition(": ")
        # A change that makes a test go on for ever is noticed too.
        noticed = outcome in {"killed", "timeout"}
        by_module[name.rpartition(".")[0]]["noticed" if noticed else "not"] += 1
        left += [] if noticed else [f"{name}: {outcome}"]
    total = sum(by_module.values(), Counter())
    rows = [*sorted(by_module.items()), ("in all", total)]
    lines = [f"{module:30} {count.total():>6,} mutants {count['noticed']:>6,} noticed" for module, count in rows]
    return "\n".join([*left, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these again, such as txwatch.wire.*")
    options = parser.parse_args()
    began = time.monotonic()
    code = run(options.names)
    if code == 0:
        print(f"{figures()}\nin {(time.monotonic() - began) / 60:.0f} min")
    return code


if __name__ == "__main__":
    sys.exit(main())
