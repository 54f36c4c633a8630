"""`python3 deploy/install.py FOLDER LOCK` makes a virtual environment, or completes one, with what a lock pins.

Every package is checked against its hash, and dependencies are not resolved anew. uv does it many times as fast as pip;
where it cannot be had, pip does. Needs nothing but Python: it runs before anything is installed.
"""

import subprocess
import sys
import time
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
UV = PROJECT / "requirements-uv.lock"
LOOK_EVERY_SECONDS = 0.2
WIDTH = 30


def main() -> None:
    """Install, and say in one line what was done."""
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2])
    if not (3, 11) <= sys.version_info < (3, 14):
        sys.exit("txwatch needs Python 3.11, 3.12 or 3.13; try: make PYTHON=python3.12")
    began = time.monotonic()
    python = folder / "bin" / "python"
    if not succeeds([str(python), "-m", "pip", "--version"]):
        venv.create(folder, symlinks=True, with_pip=True)
    count = sum(line[0].isalpha() for line in lock.read_text().splitlines() if line)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    how = "uv"
    if not (succeeds([*pip, "--no-deps", "--require-hashes", "-r", str(UV)]) and installs_by_uv(folder, lock, count)):
        how = "pip, which takes minutes: uv could not be used"
        print(f"Installing {count} packages by {how}.", file=sys.stderr)
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(lock)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(PROJECT)], check=True)
    print(f"Installed {count} packages in {time.monotonic() - began:.0f} s ({how.split(',')[0]}).", file=sys.stderr)


def succeeds(command: list[str]) -> bool:
    """Whether the command is there and ends well; what it says is left out."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def installs_by_uv(folder: Path, lock: Path, count: int) -> bool:
    """Whether uv installs the lock. Shows a bar on a terminal meanwhile."""
    uv = str(folder / "bin" / "uv")
    python = str(folder / "bin" / "python")
    try:
        asked = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=False)
    except OSError as error:
        print(error, file=sys.stderr)
        return False
    unpacked = Path(asked.stdout.strip() or ".") / "archive-v0"
    before = entries(unpacked)
    command = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", str(lock)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                _, said = process.communicate(timeout=LOOK_EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                show(max(entries(unpacked) - before, entries(folder, "lib/*/site-packages/*.dist-info")), count)
    if process.returncode != 0:
        print(said, file=sys.stderr)
        return False
    show(count, count)
    return True


def entries(folder: Path, pattern: str = "*") -> int:
    """How many there are."""
    return sum(1 for _ in folder.glob(pattern))


def show(done: int, count: int) -> None:
    """A bar, in place of the one before."""
    if sys.stderr.isatty():
        filled = min(WIDTH, WIDTH * done // max(count, 1))
        end = "\n" if done >= count else ""
        bar = "━" * filled + " " * (WIDTH - filled)
        print(f"\rinstallation {bar} {min(done, count)} of {count} packages", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
