"""The machine: the interpreter and its packages, memory, disk, ports, programs."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

import psutil
from packaging.requirements import Requirement

from txwatch.settings import Settings
from txwatch.system.doctor.findings import Finding, good, note, wrong
from txwatch.system.environment import PORTS
from txwatch.system.ports import is_free

PYTHONS = ((3, 11), (3, 14))
"""The oldest that works, and the first that does not."""
MEMORY_BYTES = 2 * 2**30
DISK_BYTES = 5 * 2**30
PROGRAMS = {
    "chromium": "the tests of the dashboard, and new pictures for the README",
    "redis-server": "the tests of Feast's online store and of several workers",
    "prometheus": "the tests of metrics and alert rules",
}


def look_at_python(_: Settings) -> Iterator[Finding]:
    """The interpreter, and whether every package that is needed is installed in a version that will do."""
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        yield good("Python", version)
    else:
        yield wrong(
            "Python", f"{version}; 3.11, 3.12 or 3.13 is needed", "make clean, then make PYTHON=python3.12 test"
        )
    missing = list(missing_packages())
    if missing:
        yield wrong("packages", f"missing or too old: {', '.join(missing)}", "pip install -r requirements.lock")
    else:
        yield good("packages", "all are installed")


def missing_packages(distribution: str = "txwatch") -> Iterator[str]:
    """What the distribution requires and is not installed; its extras are optional."""
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for text in required:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if metadata.version(requirement.name) not in requirement.specifier:
                yield text
        except metadata.PackageNotFoundError:
            yield requirement.name


def look_at_machine(settings: Settings) -> Iterator[Finding]:
    """Memory, the disk that holds the state, and whether it can be written."""
    home = settings.home.resolve()
    memory = psutil.virtual_memory().available
    if memory < MEMORY_BYTES:
        yield note("memory", f"{memory / 2**30:.1f} GiB are free; the whole system takes about 2", "close what you can")
    else:
        yield good("memory", f"{memory / 2**30:.1f} GiB are free")
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        yield wrong("state", f"{home} cannot be written", "set TXWATCH_HOME to a folder that can")
    free = shutil.disk_usage(place).free
    if free < DISK_BYTES:
        remedy = "free some, or lower TXWATCH_RETENTION_DAYS; a day of transactions takes about 2.3 GB"
        yield wrong("disk", f"{free / 2**30:.1f} GiB are free under {place}", remedy)
    else:
        yield good("disk", f"{free / 2**30:.0f} GiB are free under {place}")


def look_at_ports(_: Settings) -> Iterator[Finding]:
    """Whether the ports can be had; one in use is no fault while the system runs."""
    taken = {name: port for name, port in PORTS.items() if not is_free(port)}
    for name, port in taken.items():
        yield note("ports", f"{port}, which {name} needs, is in use", "no fault if txwatch runs; else stop what has it")
    if not taken:
        yield good("ports", f"{', '.join(map(str, PORTS.values()))} are free")


def look_at_programs(_: Settings) -> Iterator[Finding]:
    """Programs of the machine that only tests use."""
    for program, purpose in PROGRAMS.items():
        found = shutil.which(program)
        yield good(program, found) if found else note(program, "is not installed", f"only for {purpose}")
