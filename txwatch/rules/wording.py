"""Why a rule fits a transaction, in words: which comparisons were true, and by what value."""

from collections.abc import Collection

from txwatch.detection.reasons import Reason, dollars, feature_words
from txwatch.features.batch import Floats
from txwatch.features.contract import FEATURE_NAMES
from txwatch.labels.label import UNKNOWN
from txwatch.rules.look_ups import LookedUp
from txwatch.rules.rule import AllOf, AnyOf, Flows, Found, Labelled, Leaf, Not, Number, Rule, ToldBy, Tree

MOST_PARTS = 8
"""That a reason says of one match."""
_SPENT = {"sender": "spent from", "receiver": "paid to", "payer": "one hop after"}


def reason(
    rule: Rule, held: Collection[Leaf], features: Floats, looked_up: LookedUp, row: int, usd_price: float | None
) -> Reason:
    """The reason of a match. `held` are the comparisons that are true of it; its features have shape (features,).

    It is about the first amount that is compared, or else the first number.
    """
    true = list(dict.fromkeys(_true(rule.when, held)))
    parts = [_said(leaf, features, looked_up, row, usd_price) for leaf in true[:MOST_PARTS]]
    numbers = [leaf for leaf in true if isinstance(leaf, Number)]
    amounts = [leaf for leaf in numbers if leaf.feature.endswith("_sat")]
    about = next(iter((*amounts, *numbers)), None)
    value = None if about is None else float(features[FEATURE_NAMES.index(about.feature)])
    said = f"{rule.text}: {'; '.join(parts)}" if parts else rule.text
    version = f" (rule {rule.name}, version {rule.version})" if rule.version else ""
    return Reason(rule.kind, said + version, None if about is None else about.feature, value)


def _true(tree: Tree, held: Collection[Leaf]) -> list[Leaf]:
    """The comparisons of a tree that are true and count for it; what is below a `not` counts against it."""
    match tree:
        case AllOf(parts) | AnyOf(parts):
            return [leaf for part in parts for leaf in _true(part, held)]
        case Not():
            return []
    return [tree] if tree in held else []


def _said(leaf: Leaf, features: Floats, looked_up: LookedUp, row: int, usd_price: float | None) -> str:
    match leaf:
        case Number(feature, text=text, in_usd=in_usd):
            words = feature_words(feature, float(features[FEATURE_NAMES.index(feature)]))
            at = f" at {dollars(usd_price)}" if in_usd and usd_price is not None else ""
            return f"{words} ({text}{at})"
        case Found(kind):
            return f"found to be {kind}"
        case Flows(kind):
            flow = looked_up.flows.get(row)
            return kind if flow is None or kind == UNKNOWN else flow.text
        case ToldBy(source):
            return f"told first by {source}"
        case Labelled(party):
            return f"{_SPENT[party]} {_named(leaf, looked_up, row)}"


def _named(leaf: Labelled, looked_up: LookedUp, row: int) -> str:
    """Whom the labels that fit name, with their sources; of the watch list the address."""
    addresses = looked_up.fitting(leaf, row)
    if leaf.by == "watched":
        return f"watched address {addresses[0]}" if addresses else "a watched address"
    labels = [looked_up.known[address].best for address in addresses]
    names = list(dict.fromkeys(f"{label.entity} ({label.source})" for label in labels))
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
