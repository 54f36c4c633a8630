"""What a rule may say, and what is said of one that is wrong: the place, and the nearest right word."""

import json
import math
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txwatch.detection.kinds import Severity
from txwatch.rules import parse
from txwatch.rules.document import MOST_BYTES, MOST_FAULTS, MOST_PARTS, Placed, RuleError, plain, read_plain, read_yaml
from txwatch.rules.parse import comparison, parse_rule
from txwatch.rules.rule import AllOf, AnyOf, Flows, Found, Labelled, Not, Number, Rule, ToldBy
from txwatch.rules.terms import TermError, known_term

BTC = 100_000_000
WHOLE = """
name: into-an-exchange
text: Large transfer into an exchange
severity: high
mode: off
channels: [ops, desk-2]
alerts_per_hour: 5
one_alert_within: 30 min
when:
  all:
    - moved_sat >= 500 BTC
    - flow = exchange_in
    - any:
        - kind in whale, forest
        - not: receiver matches label entity "Crypto.com*"
    - fee_sat < 1,000 USD
"""


def test_a_whole_rule_is_read_into_plain_values() -> None:
    assert parse_rule(read_yaml(WHOLE)) == Rule(
        "into-an-exchange",
        "Large transfer into an exchange",
        Severity.high,
        AllOf(
            (
                Number("moved_sat", 500 * BTC, math.inf, ">= 500 BTC"),
                Flows("exchange_in"),
                AnyOf(
                    (
                        AnyOf((Found("whale"), Found("forest"))),
                        Not(Labelled("receiver", "entity", "cryptocom*")),
                    )
                ),
                Number("fee_sat", -math.inf, math.nextafter(1_000, 0), "< 1,000 USD", in_usd=True),
            )
        ),
        "off",
        ("ops", "desk-2"),
        5,
        timedelta(minutes=30),
    )


def test_the_same_rule_in_json_is_the_same_rule() -> None:
    document = read_yaml(WHOLE)
    assert parse_rule(read_plain(json.loads(json.dumps(plain(document))))) == parse_rule(document)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("vsize > 100", Number("vsize", 100 + 2.0**-17, math.inf, "> 100")),  # the next float32
        ("value_sat > 100 sat", Number("value_sat", math.nextafter(100, math.inf), math.inf, "> 100 sat")),
        ("fee_rate = 20 sat/vB", Number("fee_rate", 20, 20, "= 20 sat/vB")),
        ("fee_share >= 50 %", Number("fee_share", 0.5, math.inf, ">= 50 %")),
        ("input_age_max_blocks >= 5 years", Number("input_age_max_blocks", 262_980, math.inf, ">= 5 years")),
        ("value_sat between 1 BTC and 2 BTC", Number("value_sat", BTC, 2 * BTC, "between 1 BTC and 2 BTC")),
        ("rbf == 1", Number("rbf", 1, 1, "= 1")),
        ("version in [1, 2]", AnyOf((Number("version", 1, 1, "= 1"), Number("version", 2, 2, "= 2")))),
        (
            "value_sat in 1,000 sat, 2 BTC",
            AnyOf((Number("value_sat", 1_000, 1_000, "= 1,000 sat"), Number("value_sat", 2 * BTC, 2 * BTC, "= 2 BTC"))),
        ),
        ("kind = whale", Found("whale")),
        ("kind != whale", Not(Found("whale"))),
        ("flow in exchange_in, exchange_out", AnyOf((Flows("exchange_in"), Flows("exchange_out")))),
        ("source = bitcoin-core-2", ToldBy("bitcoin-core-2")),
        ("payer matches label watched", Labelled("payer", "watched")),
        ("sender matches label category mixing_service", Labelled("sender", "category", "mixing_service")),
    ],
)  # fmt: skip
def test_comparisons(text: str, tree: object) -> None:
    assert comparison(text) == tree


def test_unequal_leaves_out_what_is_unknown() -> None:
    assert comparison("vsize != 5") == AnyOf(
        (
            Number("vsize", -math.inf, 5 - 2.0**-21, "< 5"),
            Number("vsize", 5 + 2.0**-21, math.inf, "> 5"),
        )
    )


def rule(when: str = "  vsize > 1", **changes: str) -> str:
    fields = {"name": "mine", "text": "Mine", "severity": "low"} | changes
    return "\n".join([*(f"{name}: {value}" for name, value in fields.items() if value), f"when:\n{when}"])


WRONG = {
    "a feature that is nearly there": (
        rule("  moved >= 500 BTC"),
        "line 5, when: there is nothing called `moved` to compare, did you mean `moved_sat`?",
    ),
    "an amount without a unit": (
        rule("  all:\n    - vsize > 1\n    - moved_sat >= 500"),
        "line 7, when.all[1]: `500` of `moved_sat` needs a unit: write `500 BTC`, `500 sat`, `500 USD`",
    ),
    "a unit of nothing": (
        rule("  moved_sat >= 500 BCT"),
        "line 5, when: `BCT` is no unit of `moved_sat`, did you mean `BTC`?",
    ),
    "a kind that nobody finds": (
        rule("  any:\n    - kind = wale"),
        "line 6, when.any[0]: there is no kind `wale`, did you mean `whale`?",
    ),
    "an operator the wrong way round": (
        rule("  fee_rate => 10"),
        "line 5, when: `=>` after `fee_rate` is no comparison, did you mean `>=`?",
    ),
    "a field that is nearly there": (
        rule(chanels="[ops]"),
        "line 4, chanels: a rule has no `chanels`, did you mean `channels`?",
    ),
    "several at once": (
        rule(name="Mine", severity="hihg", mode="of"),
        "line 1, name: `Mine` is no name: small letters, digits, - and _, at most 48, such as `large-moves`\n"
        "line 3, severity: there is no severity `hihg`, did you mean `high`?\n"
        "line 4, mode: there is no mode `of`, did you mean `off`?",
    ),
    "a party without its label": (
        rule("  receiver = Binance"),
        "line 5, when: `receiver` is asked for its labels alone: write `receiver matches label category exchange`",
    ),
    "a list without its group": (
        rule("  - vsize > 1"),
        "line 4, when: a list needs `all` or `any` before it",
    ),
    "a list in brackets that is cut at a comma": (
        rule("  all: [kind in whale, forest]"),
        "line 5, when.all[1]: `forest` is a kind: write `kind = forest`, and quotes around what has a comma",
    ),
    "no YAML": (
        rule("  all: ["),
        "line 5: this is no YAML: a value is missing, or the `]` or `}` of what was opened",
    ),
    "a bracket that is not closed, three lines above the end": (
        rule("  all: [vsize > 1") + "\nmode: off\nalerts_per_hour: 3\n",
        "line 5: this is no YAML: a `[` that is opened here has no `]`, or a comma is missing",
    ),
    "a tab": (
        rule("\tvsize > 1"),
        "line 5: this is no YAML: there is a tab; indent by spaces",
    ),
    "a quote that is not closed": (
        rule(text="'Mine"),
        "line 2: this is no YAML: the quote that is opened here is not closed",
    ),
    "a text with a colon": (
        rule(text="Large: mine"),
        "line 2: this is no YAML: a text with a colon needs quotes, the colon of a name a space",
    ),
    "a list that is not indented as it began": (
        rule("  all:\n    - vsize > 1\n   - vsize < 3"),
        "line 7: this is no YAML: this line is not indented as the names above it",
    ),
    "a sign that YAML keeps for itself": (
        rule("  all:\n    - '% 5'\n    - % 5"),
        "line 7: this is no YAML: a text that begins with this sign needs quotes",
    ),
    "a list without its hyphens": (
        rule("  all:\n    vsize > 1"),
        "line 6, when.all: `all` needs a list of comparisons, with `- ` before each",
    ),
    "a decimal comma": (
        rule("  moved_sat >= 10,5 BTC"),
        "line 5, when: `10,5` may mean two numbers: commas are for thousands, a full stop for decimals",
    ),
    "a number cut short": (
        rule("  moved_sat >= 1M USD"),
        "line 5, when: `1M` is a number cut short: write all digits, such as `1,000,000 USD`",
    ),
    "a word for a number": (
        rule("  all:\n    - rbf = true\n    - fee_rate > high"),
        "line 6, when.all[0]: `true` is no number of `rbf`: write such as 1 or 0\n"
        "line 7, when.all[1]: `high` is no number of `fee_rate`: write such as `10`, `10 sat/vB`",
    ),
    "two comparisons in one": (
        rule("  all:\n    - vsize > 1 and vsize < 3\n    - kind = whale or kind = forest"),
        "line 6, when.all[0]: `and` joins no comparisons: write each by itself into the list of `all`\n"
        "line 7, when.all[1]: `or` joins no comparisons: write each by itself into the list of `any`",
    ),
    "not within a comparison": (
        rule("  not kind = coinjoin"),
        "line 5, when: `not` is a group of its own: write `not: kind = coinjoin`",
    ),
    "brackets that do not fit": (
        rule("  all:\n    - kind in [whale, forest\n    - kind in (whale, forest)"),
        "line 6, when.all[0]: brackets of `[whale, forest` do not fit: write the values with commas, and no brackets\n"
        "line 7, when.all[1]: brackets of `(whale, forest)` do not fit: write the values with commas, and no brackets",
    ),
    "a label without what it is of": (
        rule("  receiver matches label exchange"),
        "line 5, when: a label has no `exchange`: write such as `receiver matches label category exchange`; there are"
        " known, watched, entity, category, source",
    ),
    "a cap that lets nothing through": (
        rule(alerts_per_hour="0"),
        "line 4, alerts_per_hour: `alerts_per_hour` is a number from 1 to 1,000; a rule of `mode: test` sends nothing",
    ),
    "a word that is near to nothing": (
        rule("  amount > 1"),
        "line 5, when: there is nothing called `amount` to compare: a rule compares features (docs/features.md) such as"
        " `moved_sat`, kind, flow, source and parties",
    ),
    "nothing to say when": (
        "name: mine\ntext: Mine\nseverity: low\n",
        "line 1: `when` is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_rule_is_told_what_to_change(text: str, said: str) -> None:
    with pytest.raises(RuleError) as error:
        parse_rule(read_yaml(text))
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: &a [1]\ny: *a", "line 1: a rule has no anchors"),
        ("x: !!python/name:os.system ''", "line 1: a rule has no tags"),
        ("a: {" * 60, "is too deep"),
        ("[" * 5_000, "is too deep"),
        ("a: 1\na: 2", "`a` is there twice"),
        ("a: 1\n---\nb: 1", "a second document"),
        ("", "it is empty"),
        ("- a", "a rule has `name:`, `text:`, `severity:`, `when:`"),
        ("\x07", "this is no YAML"),
        ("a" * (MOST_BYTES + 1), "65,536 bytes"),
        (rule("  all:\n" + "    - vsize > 1\n" * 101), "100 comparisons"),
        (rule(alerts_per_hour="0"), "a number from 1 to 1,000"),
        (rule(alerts_per_hour="'00000000199999999999'"), "a number from 1 to 1,000"),
        (rule(alerts_per_hour="'000000001" + "9" * 5_000 + "'"), "a number from 1 to 1,000"),
        ("a: {" + "b: c, " * MOST_PARTS + "}", "1,000 parts"),
        ("%YAML " + "9" * 5_000 + ".9\n---\na: 1", "this is no YAML"),
        ('a: "\\UFFFFFFFF"', "this is no YAML"),
        (rule(text=r'"\e[2J"'), "a character that no text can have"),
        (rule(text='"left \u202e right"'), "a character that no text can have"),
        (rule(one_alert_within="2 days"), "of a day at most"),
        (rule(channels="ops"), "a list of at most 20 names"),
        (rule("  vsize > 1e999"), "too large"),
        (rule("  vsize between 2 and 1"), "nothing lies between"),
        (rule("  fee: 3"), "`fee` is no group"),
        (rule("  all: []"), "needs a list of comparisons"),
    ],
)
def test_what_is_hostile_or_beyond_bounds_is_refused(text: str, said: str) -> None:
    with pytest.raises(RuleError, match="(?s)" + said.replace("(", r"\(")):
        parse_rule(read_yaml(text))


def test_json_is_bounded_as_well() -> None:
    deep: object = "vsize > 1"
    for _ in range(40):
        deep = {"not": deep}
    for value in deep, None, float("nan"), {"name": True, "when": [None]}, {"a": 10**400}, {"a": 10**5_000}:
        with pytest.raises(RuleError):
            parse_rule(read_plain(value))


def test_a_document_that_is_wrong_everywhere_is_read_no_further_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    monkeypatch.setattr(parse, "known_term", lambda word: looked_up.append(word) or known_term(word))
    with pytest.raises(RuleError) as error:
        parse_rule(read_plain({"when": {"all": ["movedd_saat > 1"] * 2_500}, "x" * 9_000: "1"}))
    assert len(looked_up) <= len(error.value.faults) == MOST_FAULTS
    assert len(str(error.value)) < 500 * MOST_FAULTS


@given(st.text(max_size=80))
def test_no_text_does_anything_but_be_a_comparison_or_be_refused(text: str) -> None:
    with suppress(TermError):
        comparison(text)


@given(st.recursive(st.text(max_size=8), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x)))
def test_no_document_does_anything_but_be_a_rule_or_be_refused(value: object) -> None:
    for document in (lambda: read_plain(value), lambda: Placed("x")):
        with pytest.raises(RuleError):
            parse_rule(document())
