"""The commands as a page: `docs/reference/commands.md`."""

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from txwatch.cli import app

HEAD = """\
# Commands

Installed in `.venv/bin`. Each takes `--help`. A command ends with 0 when it did what was asked, and with 2 and one
line on standard error when something must be put right first. Those that read the database find that of a system that
runs with the same `TXWATCH_HOME`, if `DATABASE_URL` does not name another.
"""


def commands_page() -> str:
    """`docs/reference/commands.md`."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in all_commands())])


def all_commands() -> Iterator[tuple[str, Any]]:
    """Every command of Click by its whole name, such as `rules add`, in the order of `txwatch --help`."""
    yield from _within("", get_command(app))


def _within(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield prefix.strip(), command
        return
    for name, inner in command.commands.items():
        yield from _within(f"{prefix} {name}", inner)


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    rows = [_row(one) for one in command.params if "--help" not in one.opts]
    table = ["| | default | |", "| --- | --- | --- |", *rows, ""] if rows else []
    usage = " ".join(["txwatch", name, *command.collect_usage_pieces(context)]).replace(" [OPTIONS]", "")
    return "\n".join([f"## {name}", "", f"`{usage}`", "", inspect.cleandoc(command.help or ""), "", *table])


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.name.upper() if argument else ", ".join(parameter.opts)
    stated = None if callable(parameter.default) or parameter.required else parameter.default
    return f"| `{name}` | {'' if stated in (None, False) else f'`{stated}`'} | {parameter.help or ''} |"
