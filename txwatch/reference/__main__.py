"""`python -m txwatch.reference` writes the reference pages, the README's table of settings, and `.env.example`."""

from collections.abc import Callable
from pathlib import Path

from txwatch.reference.commands import commands_page
from txwatch.reference.detection import feature_page, kinds_page
from txwatch.reference.routes import routes_page
from txwatch.reference.settings import EXAMPLE, PROJECT, README, example, in_readme, settings_page
from txwatch.reference.stored import metrics_page, tables_page

DOCS = PROJECT / "docs"
PAGES: dict[Path, Callable[[], str]] = {
    EXAMPLE: example,
    DOCS / "features.md": feature_page,
    DOCS / "reference/commands.md": commands_page,
    DOCS / "reference/kinds.md": kinds_page,
    DOCS / "reference/metrics.md": metrics_page,
    DOCS / "reference/routes.md": routes_page,
    DOCS / "reference/settings.md": settings_page,
    DOCS / "reference/tables.md": tables_page,
}


def main() -> None:
    """Write all pages."""
    README.write_text(in_readme(README.read_text()))
    for path, page in PAGES.items():
        path.write_text(page())


if __name__ == "__main__":
    main()
