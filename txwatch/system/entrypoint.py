"""`python -m txwatch.system.entrypoint COMMAND...` runs one command as a container does.

It completes the environment first: a secret may be a file, named by its variable with `_FILE` added. Then it passes a
signal to every process below it, and leaves when the last of them has: a run that Dagster's code server started would
otherwise be killed with the server, and what it had received since its last commit with it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlsplit, urlunsplit

import psutil

from txwatch.errors import UserError

GRACE_SECONDS = 50
"""How long processes have to flush and leave; the container's own grace period is a little longer."""
_FILE = "_FILE"
PASSWORD = "DATABASE_PASSWORD"  # noqa: S105 - the name of a variable
SECRETS = ("DATABASE_URL", PASSWORD, "TELEGRAM_BOT_TOKEN", "TXWATCH_API_KEY", "AWS_SECRET_ACCESS_KEY")
"""What may come from a file."""


class SecretFileError(UserError):
    """A file that should hold a secret cannot be read."""


class NoCommandError(UserError):
    """The command is not installed."""


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with NAME set from the file that NAME_FILE names, if NAME is not set; an empty file sets nothing.

    A variable that is empty is left out: libraries would take it for a value. A DATABASE_URL without a password gets
    that of DATABASE_PASSWORD. Raises SecretFileError.
    """
    found = {name: value for name, value in environment.items() if value}
    for name, path in environment.items():
        bare = name.removesuffix(_FILE)
        if bare == name or bare not in SECRETS or environment.get(bare):
            continue
        try:
            secret = Path(path).read_text().strip()
        except OSError as error:
            raise SecretFileError(f"{name} names {path}, which cannot be read: {error.strerror}") from None
        if secret:
            found[bare] = secret
    if found.get("DATABASE_URL") and found.get(PASSWORD):
        found["DATABASE_URL"] = _with_password(found["DATABASE_URL"], found[PASSWORD])
    return found


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    if parts.password or not parts.hostname:
        return url
    user, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run the command until it ends, then what it left behind until that has. Returns its exit status.

    Raises NoCommandError.
    """
    try:
        child = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - the container's own command
    except FileNotFoundError:
        raise NoCommandError(f"there is no command {command[0]}") from None
    family: set[psutil.Process] = set()

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Taken before anything dies: an orphan is no longer a child of ours.
        family.update(psutil.Process().children(recursive=True))
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    status = child.wait()
    _, stubborn = psutil.wait_procs(list(family), timeout=GRACE_SECONDS)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return status if status >= 0 else 128 - status


def main(command: list[str]) -> int:
    """Run the command with the environment of the system. Returns the exit status."""
    # Imported here, for the settings read the environment that the secrets complete.
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
