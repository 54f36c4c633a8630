"""`python -m txwatch.system.entrypoint COMMAND...` runs one command in a container.

It first completes the environment: a secret may be in a file, which the variable with `_FILE` added names. It passes
signals to every process below it, and ends after the last of them. Otherwise a run would be killed with Dagster's code
server, and lose what it received since its last commit. What has not ended GRACE_SECONDS after the signal is
killed, and named.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit, urlunsplit

import psutil

from txwatch.errors import UserError

GRACE_SECONDS = 50
"""The time that processes have to flush and end; the container's grace period is a little longer."""
LOOK_AGAIN_SECONDS = 1.0
"""How often, after a signal, those are sought that started meanwhile."""
COMMAND_CHARACTERS = 200
"""How much is said of the command of a process that had to be killed."""
PASSWORD = "DATABASE_PASSWORD"  # noqa: S105 - the name of a variable
SECRETS = (
    "DATABASE_URL",
    PASSWORD,
    "BITCOIN_RPC_URL",
    "TELEGRAM_BOT_TOKEN",
    "TXWATCH_API_KEY",
    "TXWATCH_BROKER_URL",
    "AWS_SECRET_ACCESS_KEY",
)
"""The variables whose value may be in a file."""


class SecretFileError(UserError):
    """A file that should hold a secret cannot be read."""


class NoCommandError(UserError):
    """The command is not installed."""


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with each unset NAME taken from the file NAME_FILE, unless either is empty.

    Empty variables are left out, for libraries would use them. A DATABASE_URL without a password gets that of
    DATABASE_PASSWORD; with DATABASE_USER it gets both, whatever it has. Raises SecretFileError.
    """
    found = {name: value for name, value in environment.items() if value}
    for name, path in environment.items():
        bare = name.removesuffix("_FILE")
        if bare == name or bare not in SECRETS or not path or environment.get(bare):
            continue
        try:
            secret = Path(path).read_text().strip()
        except OSError as error:
            raise SecretFileError(f"{name} names {path}, which cannot be read: {error.strerror}") from None
        if secret:
            found[bare] = secret
    if found.get("DATABASE_URL") and found.get(PASSWORD):
        found["DATABASE_URL"] = _with_login(found["DATABASE_URL"], found.get("DATABASE_USER"), found[PASSWORD])
    return found


def _with_login(url: str, user: str | None, password: str) -> str:
    parts = urlsplit(url)
    if (parts.password and not user) or not parts.hostname:
        return url
    given, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user or given}:{quote(password, safe='')}@{place}"))


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run the command and what it started until all have ended. Returns its exit status. Raises NoCommandError."""
    family: set[psutil.Process] = set()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Before any process ends: an orphan is no longer a child of this one.
        family.update(psutil.Process().children(recursive=True))
        _send(family, number)
        signal.signal(signal.SIGALRM, functools.partial(look_again, number, time.monotonic() + GRACE_SECONDS))
        signal.setitimer(signal.ITIMER_REAL, LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS)

    def look_again(number: int, deadline: float, _alarm: int, _frame: FrameType | None) -> None:
        # The command may wait for a process that it started just then, and that was told nothing.
        late = set(psutil.Process().children(recursive=True)) - family
        family.update(late)
        _send(late, number)
        if time.monotonic() >= deadline:
            _kill(family)

    # Before the command starts, which begins with their defaults so: if SIGINT was ignored here, as in what a shell has
    # in the background, it would be there too, and Dagster's servers then ignore SIGTERM as well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    try:
        child = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - the container's own command
    except FileNotFoundError:
        raise NoCommandError(f"there is no command {command[0]}") from None
    status = child.wait()
    _, stubborn = psutil.wait_procs(list(family), timeout=GRACE_SECONDS)
    _kill(stubborn)
    # Python gives signals back their defaults when it ends: this one would end it with a status of its own.
    signal.setitimer(signal.ITIMER_REAL, 0)
    return status if status >= 0 else 128 - status


def _send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            said = " ".join(process.cmdline())[:COMMAND_CHARACTERS]
            process.kill()
            if said:  # what has ended and waits for its parent has no command
                print(f"txwatch: killed {process.pid}, which did not end in {GRACE_SECONDS} s: {said}", file=sys.stderr)


def main(command: list[str]) -> int:
    """Run the command with the settings of a service. Returns its status; 2 without one, or if a setting cannot be."""
    from txwatch.settings import Settings
    from txwatch.system.environment import system_environment

    if not command:
        print("usage: python -m txwatch.system.entrypoint COMMAND...", file=sys.stderr)
        return 2
    try:
        environment = with_secrets(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        settings = Settings()
        if settings.database_url is None:
            return run(command, os.environ)
        return run(command, system_environment(settings.home, settings.database_url.get_secret_value()))
    except UserError as error:
        print(f"txwatch: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
