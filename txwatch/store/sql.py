"""SQL statements kept in files beside the module that runs them."""

from functools import cache
from pathlib import Path
from typing import LiteralString


@cache
def statement(module_file: str, name: str) -> LiteralString:
    """The text of `name`.sql beside a module, which passes its `__file__`. Values are bound, never formatted in."""
    return Path(module_file).with_name(f"{name}.sql").read_text()
