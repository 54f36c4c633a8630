"""What a rule can compare, and with what: features with their units, kinds, flows, sources and parties.

Features, kinds and flows are those of the contract, of the detectors and of the labels, so that a rule can name
nothing that is not there.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from txwatch.detection.rules import default_detectors
from txwatch.features.contract import FEATURES
from txwatch.labels.flows import FLOW_CLASSES
from txwatch.rules.rule import Party
from txwatch.sources.chosen import KINDS as SOURCES
from txwatch.wire.messages import SAT_PER_BTC

USD = "USD"
_BLOCKS_A_DAY = 144
_UNITS: Mapping[str, Mapping[str, float]] = {
    "sat": {"BTC": SAT_PER_BTC, "sat": 1, USD: math.nan},
    "share": {"": 1, "%": 0.01},
    "blocks": {"": 1, "blocks": 1, "days": _BLOCKS_A_DAY, "years": 365.25 * _BLOCKS_A_DAY},
    "h": {"h": 1, "": 1, "days": 24},
}
"""By the unit of the contract, what may be written instead and how much of it that is; USD by the price of the moment.

The empty unit is a bare number. An amount has none: too often 500 is meant as bitcoin.
"""
FEATURE_UNITS: Mapping[str, Mapping[str, float]] = {
    feature.name: _UNITS.get(feature.unit) or {"": 1, feature.unit: 1} for feature in FEATURES
}
_TYPES = {feature.name: np.dtype(feature.type) for feature in FEATURES}
KINDS: tuple[str, ...] = (
    *dict.fromkeys(kind for detector in default_detectors(whale_btc=1) for kind in detector.kinds),
    "forest",
)
"""Kinds that are found in a transaction. Those of the network and of the system are of none."""
SETS: Mapping[str, tuple[str, ...]] = {"kind": KINDS, "flow": FLOW_CLASSES, "source": SOURCES}
PARTIES: tuple[Party, ...] = get_args(Party)
LABELS_BY = ("known", "watched", "entity", "category", "source")
TERMS: tuple[str, ...] = (*FEATURE_UNITS, *SETS, *PARTIES)

_QUANTITY = re.compile(r"(-?[\d,_]*\.?\d+(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_SHORT = re.compile(r"(k|m|mn|mio|bn|thousand|million|billion)\b", re.IGNORECASE)
_JOINED = re.compile(r"\b(and|or)\b")
_OF_A_NODE = re.compile(r"bitcoin-core-\d{1,3}")


class TermError(ValueError):
    """A term that is not there, or a value that it cannot have. The text is for whoever wrote the rule."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in the unit of its feature, or in USD."""

    value: float
    in_usd: bool


def nearest(word: str, words: Iterable[str]) -> str:
    """`, did you mean ...?` with the word that is most like it, or the empty text."""
    by_small = {known.casefold(): known for known in words}
    small = word.casefold()
    found = difflib.get_close_matches(small, by_small, n=1, cutoff=0.6)
    # `moved` is far from `moved_sat` by its letters alone.
    found = found or [known for known in by_small if len(small) > 2 and small in known.split("_")][:1]
    return f", did you mean `{by_small[found[0]]}`?" if found else ""


def quantity(feature: str, text: str) -> Quantity:
    """Read a quantity of a feature, such as `500 BTC`, `5 years` or `20 sat/vB`. Raises TermError."""
    match, units = _QUANTITY.fullmatch(text.strip()), FEATURE_UNITS[feature]
    if match is None:
        example = "1 or 0" if "flag" in units else _written("10", units)
        raise TermError(f"`{text.strip()}` is no number of `{feature}`: write such as {example}")
    if "," in match[1] and _THOUSANDS.fullmatch(match[1]) is None:
        raise TermError(f"`{match[1]}` may mean two numbers: commas are for thousands, a full stop for decimals")
    number, unit = match[1].replace(",", "").replace("_", ""), match[2].strip()
    by_small = {known.casefold(): known for known in units}
    if unit.casefold() not in by_small:
        written = _written(match[1], units)
        if not unit:
            raise TermError(f"`{match[1]}` of `{feature}` needs a unit: write {written}")
        if short := _SHORT.match(unit):
            raise TermError(f"`{match[1]}{short[1]}` is a number cut short: write all digits, such as `1,000,000 USD`")
        _refuse_joined(unit)
        known_units = [known for known in units if known]
        raise TermError(f"`{unit}` is no unit of `{feature}`{nearest(unit, known_units) or f': write {written}'}")
    known = by_small[unit.casefold()]
    value = _stored(feature, float(number) * (1 if known == USD else units[known]))
    if not math.isfinite(value):
        raise TermError(f"`{match[1]}` is too large")
    return Quantity(value, known == USD)


def _refuse_joined(text: str) -> None:
    if joined := _JOINED.search(text):
        group = "all" if joined[1] == "and" else "any"
        raise TermError(f"`{joined[1]}` joins no comparisons: write each by itself into the list of `{group}`")


def _written(number: str, units: Iterable[str]) -> str:
    """A number with each unit that it may have."""
    return ", ".join(f"`{number} {unit}`".replace(" `", "`") for unit in units)


def _stored(feature: str, value: float) -> float:
    """The value as a feature has it: 0.7 and the 0.7 that is stored are one number then."""
    with np.errstate(over="ignore"):
        return float(_TYPES[feature].type(value))


def next_to(feature: str, value: float, towards: float) -> float:
    """The value that a feature can have next to one of its values, in the direction of another."""
    of_type = _TYPES[feature].type
    return float(np.nextafter(of_type(value), of_type(towards)))


def member(term: str, text: str) -> str:
    """Read a value of `kind`, `flow` or `source`. Raises TermError."""
    word, known = text.strip(), SETS[term]
    if word in known or (term == "source" and _OF_A_NODE.fullmatch(word)):
        return word
    _refuse_joined(word)
    meant = nearest(word, known)
    raise TermError(f"there is no {term} `{word}`{meant or ': there are ' + ', '.join(known)}")


def known_term(word: str) -> str:
    """The term, if there is one of this name. Raises TermError with the nearest one."""
    if word in TERMS:
        return word
    for term, members in SETS.items():
        if word in members:
            # A list in brackets is cut at each comma, also at those of a comparison.
            raise TermError(f"`{word}` is a {term}: write `{term} = {word}`, and quotes around what has a comma")
    meant = nearest(word, TERMS) or (
        ": a rule compares features (docs/features.md) such as `moved_sat`, kind, flow, source and parties"
    )
    raise TermError(f"there is nothing called `{word}` to compare{meant}")
