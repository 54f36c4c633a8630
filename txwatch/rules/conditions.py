"""A rule as a condition in SQL on stored features: what may fit it, so that only those rows are read.

Numbers and kinds are exact, as in `evaluate.py`, which has the last word. What is looked up is open: true where that
may make the rule fit, and below a `not` false. Postgres holds NaN to be larger than any number, so it is left out.
"""

import math
from collections.abc import Iterable

from psycopg import sql

from txwatch.rules.rule import AllOf, AnyOf, Found, Leaf, Not, Number, Rule, Tree
from txwatch.wire.messages import SAT_PER_BTC

_FOUND = sql.SQL(
    "EXISTS (SELECT FROM transaction_scores AS scores WHERE scores.txid = features.txid AND lane <> 'shadow' AND {})"
)


def may_fit(rules: Iterable[Rule], usd_price: float | None) -> sql.Composed:
    """What a row `features` of transaction_features is that one of the rules may fit, at a price of a bitcoin."""
    return _joined(" OR ", [_condition(rule.when, usd_price, possibly=True) for rule in rules])


def _condition(tree: Tree, usd_price: float | None, *, possibly: bool) -> sql.Composable:
    match tree:
        case AllOf(parts):
            return _joined(" AND ", [_condition(part, usd_price, possibly=possibly) for part in parts])
        case AnyOf(parts):
            return _joined(" OR ", [_condition(part, usd_price, possibly=possibly) for part in parts])
        case Not(part):
            return sql.SQL("NOT {}").format(_condition(part, usd_price, possibly=not possibly))
    return _comparison(tree, usd_price, possibly)


def _comparison(leaf: Leaf, usd_price: float | None, possibly: bool) -> sql.Composable:
    match leaf:
        case Number():
            return _number(leaf, usd_price)
        case Found("forest"):
            return _FOUND.format(sql.SQL("score >= threshold"))
        case Found(kind):
            return _FOUND.format(sql.SQL("reasons @> {}::jsonb").format(sql.Literal(f'[{{"kind": "{kind}"}}]')))
    return sql.SQL("true" if possibly else "false")


def _number(leaf: Number, usd_price: float | None) -> sql.Composable:
    if leaf.in_usd and usd_price is None:
        return sql.SQL("false")
    satoshi = SAT_PER_BTC / usd_price if leaf.in_usd and usd_price is not None else 1.0
    column = sql.Identifier("features", leaf.feature)
    bounds = [
        sql.SQL("{} {} {}::float8").format(column, operator, sql.Literal(bound * satoshi))
        for operator, bound in ((sql.SQL(">="), leaf.low), (sql.SQL("<="), leaf.high))
        if math.isfinite(bound)
    ]
    return _joined(" AND ", [*bounds, sql.SQL("{} <> 'NaN'::float8").format(column)])


def _joined(operator: str, parts: list[sql.Composable]) -> sql.Composed:
    word = sql.SQL(" AND ") if operator == " AND " else sql.SQL(" OR ")
    return sql.SQL("({})").format(word.join(parts))
