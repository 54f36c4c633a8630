"""The settings as pages: the README's table, `.env.example` and `docs/reference/settings.md`."""

from pathlib import Path

from pydantic.fields import FieldInfo

from txwatch.settings import Settings

PROJECT = Path(__file__).parents[2]
README, EXAMPLE = PROJECT / "README.md", PROJECT / ".env.example"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->\n"


def table() -> str:
    """The settings as rows of Markdown."""
    rows = ["| setting | default | means |", "| --- | --- | --- |"]
    for field in Settings.model_fields.values():
        default = f"`{_default(field)}`" if _default(field) else ""
        rows.append(f"| `{field.validation_alias}` | {default} | {field.description} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def example() -> str:
    """The settings as a file for the environment, all commented out."""
    parts = ["# Every setting, with its default. Copy to `.env` and uncomment what you change.\n"]
    parts += [f"# {f.description}\n# {f.validation_alias}={_default(f)}\n" for f in Settings.model_fields.values()]
    return "\n".join(parts)


def in_readme(text: str) -> str:
    """The README with the table in its place."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else str(field.default)


def settings_page() -> str:
    """`docs/reference/settings.md`."""
    return f"""\
# Settings

Read from the environment, or from a file `.env` in the folder where txwatch is started; the environment wins. A setting
that cannot be read is named in one line, without its value, which may be a secret.

{table()}"""
