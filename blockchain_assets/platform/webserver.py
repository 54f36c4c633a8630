"""`python -m blockchain_assets.platform.webserver` is `dagster-webserver` behind the guard, with the same options.

Dagster's own server answers any Host and Origin, and runs mutations by GET: any page in a browser could launch runs.
"""

from importlib import import_module
from typing import Any

from txwatch.guard import Guard
from txwatch.settings import Settings

cli: Any = import_module("dagster_webserver.cli")
_unguarded = cli.create_app_from_workspace_process_context


def _guarded(*arguments: Any, **options: Any) -> Guard:
    return Guard(_unguarded(*arguments, **options), Settings().host_names, health="/server_info")


def main() -> None:
    cli.create_app_from_workspace_process_context = _guarded
    cli.main()


if __name__ == "__main__":
    main()
