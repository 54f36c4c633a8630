"""What models see, and what is found, as pages: `docs/features.md` and `docs/reference/kinds.md`."""

from dataclasses import fields
from itertools import groupby

from txwatch.clock import CONTEXT_LAG, WINDOW
from txwatch.detection.kinds import KINDS, Kind
from txwatch.features.context import MANY, QUANTILES, SHAPES, NetworkContext
from txwatch.features.contract import CONTRACT_VERSION, FEATURES, contract_fingerprint
from txwatch.features.network import BINS_PER_OCTAVE


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
transaction, in this order. Amounts in satoshi are float64, in which each is exact, all others float32.
NaN means unknown: an unresolved prevout, or no context yet.
A model carries the fingerprint that it was trained on, and refuses to score with another.

*forest*: the Isolation Forest sees it ({sum(feature.forest for feature in FEATURES)} of {len(FEATURES)}). It draws \
its cuts from all that it is given, so what says little blunts it; the others are for rules and for people.
*log*: models see log(1 + x).

{groups}

## Context

A transaction is compared with the network and the addresses as they were {CONTEXT_LAG} windows before its own, of \
{WINDOW.total_seconds() / 60:.0f} minutes each ([context](glossary.md)), in every lane: as it arrives, in its sealed \
window, and in a backtest. A context is published once, \
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


def kinds_page() -> str:
    """`docs/reference/kinds.md`."""
    table = "\n".join(
        f"| `{kind.name}` | {kind.symbol} {kind.title} | {kind.severity.name} | {'yes' if kind.alerts else 'tag'} "
        f"| {kind.claim} |"
        for kind in KINDS.values()
    )
    details = "\n".join(
        f"| `{kind.name}` | {kind.alone_per_hour if kind.alerts else ''} | {_minutes(kind)} | {_names(kind.silences)} |"
        for kind in KINDS.values()
        if kind.alerts or kind.silences
    )
    accounts = "\n".join(f"- `{k.name}`: {_names(k.accounts_for)}" for k in KINDS.values() if k.accounts_for)
    return f"""\
# Kinds

What an alert can be of. A kind that is a tag is shown on an alert that another kind raised, and raises none. A rule of
a user raises the kind `rule:<name>`, of the severity that it says. [Models](../models.md#kinds) says how each is found.

| kind | shown as | severity | alerts | claims |
| --- | --- | --- | --- | --- |
{table}

## How each is told

*alone*: so many an hour go to a chat one by one, what is beyond goes into digests. *one alert within*: findings nearer
to each other are one alert; those of `forest` if they are of one pattern. *silences*: kinds that do not alert on the
same transaction.

| kind | alone, an hour | one alert within | silences |
| --- | ---: | --- | --- |
{details}

## What each accounts for

Features that such a transaction must show: the model's score leaves them out where the kind was found.

{accounts}
"""


def _minutes(kind: Kind) -> str:
    return "" if kind.one_alert_within is None else f"{kind.one_alert_within.total_seconds() / 60:.0f} min"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))
