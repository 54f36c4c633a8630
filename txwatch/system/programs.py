"""`txwatch exec`: a program in the environment that the system's own processes have."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from txwatch.errors import UserError
from txwatch.settings import Settings

AS_WRITTEN = {"allow_interspersed_args": False}
"""For the command's context: what stands behind the program's name is the program's, whatever it looks like."""


def execute(
    command: Annotated[list[str], typer.Argument(metavar="PROGRAM...", help="Such as `dg list defs`.")],
) -> None:
    """Run a program on this installation's database and Dagster instance, such as `dg` or `dagster`."""
    from txwatch.system.environment import system_environment
    from txwatch.system.launch import database_beside

    settings = Settings()
    with database_beside(settings) as url:
        environment = system_environment(settings.home, url)
        # Programs that were installed with txwatch come first.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment["VIRTUAL_ENV"] = sys.prefix
        try:
            done = subprocess.run(command, env=environment)  # noqa: S603 - what the user typed
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run: {error.strerror}") from error
    raise typer.Exit(done.returncode)
