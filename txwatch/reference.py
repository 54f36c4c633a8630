"""`python -m txwatch.reference` writes the README's table of settings, `.env.example`, and `docs/features.md`."""

from dataclasses import fields
from itertools import groupby
from pathlib import Path

from pydantic.fields import FieldInfo

from txwatch.clock import CONTEXT_LAG, WINDOW
from txwatch.features.context import MANY, QUANTILES, SHAPES, NetworkContext
from txwatch.features.contract import CONTRACT_VERSION, FEATURES, contract_fingerprint
from txwatch.features.network import BINS_PER_OCTAVE
from txwatch.settings import Settings

PROJECT = Path(__file__).parents[1]
README, EXAMPLE, PAGE = PROJECT / "README.md", PROJECT / ".env.example", PROJECT / "docs/features.md"
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


def feature_page() -> str:
    """`docs/features.md`."""
    groups = "\n\n".join(
        f"## {group}\n\n| feature | unit | forest | log | reason |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(
            f"| `{f.name}` | {f.unit} | {'yes' if f.forest else ''} | {'yes' if f.log else ''} | {f.reason} |"
            for f in features
        )
        for group, features in groupby(FEATURES, key=lambda feature: feature.group)
    )
    context = "\n".join(f"- `{field.name}`" for field in fields(NetworkContext))
    return f"""\
# Features

<!-- Written by `python -m txwatch.reference` from the definitions. A test compares them. -->

Contract version {CONTRACT_VERSION}, fingerprint `{contract_fingerprint()}`: {len(FEATURES)} numbers describe a \
transaction, in this order. All are float64. NaN means unknown: an unresolved prevout, or no context yet.
A model carries the fingerprint that it was trained on, and refuses to score with another.

*forest*: the Isolation Forest sees it ({sum(feature.forest for feature in FEATURES)} of {len(FEATURES)}). It draws \
its cuts from all that it is given, so what says little blunts it; the others are for rules and for people.
*log*: models see log(1 + x).

{groups}

## Context

A transaction in the {WINDOW.total_seconds() / 60:.0f}-minute window W sees the network and the addresses as of W - \
{CONTEXT_LAG}, in every lane: as it arrives, in its sealed window, and in a backtest. A context is published once, \
under a publication number, and never changed. A window that is materialized again gets a new `context_version`, and \
only if something differs. Address buckets that recovered data contradict are superseded, not changed: a context that \
was published goes on summing what was known then.

The network's context, in the table `network_baseline` and in Feast's `network_context`:

{context}

`_1h` and `_24h` are the hour and the day that end with the window. Quantiles \
({", ".join(f"`{name}` {q:.0%}" for name, q in QUANTILES.items())}) come from histograms of {BINS_PER_OCTAVE} bins an \
octave, and are known to within {(2 ** (0.5 / BINS_PER_OCTAVE) - 1):.1%}.
Kinds, in the order of `kind_counts`: {", ".join(f"`{kind}`" for kind in SHAPES)}. Many is {MANY} or more.

What an address did is kept as one bucket for each address and window (`address_activity`), and summed over the \
trailing day by one SQL statement, `txwatch/features/queries.sql`, for all lanes.
"""


if __name__ == "__main__":
    README.write_text(in_readme(README.read_text()))
    EXAMPLE.write_text(example())
    PAGE.write_text(feature_page())
