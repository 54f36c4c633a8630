"""docs/rules.md says what the language can, and its examples are rules."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from txwatch.cli import app
from txwatch.detection.kinds import Severity
from txwatch.labels.flows import FLOW_CLASSES
from txwatch.rules.commands import shipped_names
from txwatch.rules.document import RuleError, read_yaml
from txwatch.rules.parse import FIELDS, MOST_COMPARISONS, comparison, parse_rule
from txwatch.rules.rule import ALERTS_PER_HOUR
from txwatch.rules.store import MOST_RULES
from txwatch.rules.terms import FEATURE_UNITS, KINDS, LABELS_BY, PARTIES, SETS

PAGE = (Path(__file__).parents[2] / "docs/rules.md").read_text()
WORD = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    return PAGE.split(f"{title}\n")[1].split("\n#")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_feature_is_in_the_table_with_its_units() -> None:
    told = {
        feature: [part.strip().strip("`") for part in units.replace("nothing", "").split(",")]
        for units, features in rows("### Numbers")
        for feature in WORD.findall(features)
    }
    assert told == {feature: list(units) for feature, units in FEATURE_UNITS.items()}


def test_every_kind_flow_and_source_is_named() -> None:
    told = section("### Kinds, flows and sources").splitlines()
    lines = {line.split("`")[1]: line for line in told if line.startswith("- `")}
    assert tuple(WORD.findall(lines["kind"].partition(". ")[0]))[1:] == KINDS
    assert set(WORD.findall(lines["flow"])[1:]) == set(FLOW_CLASSES)
    assert tuple(WORD.findall(lines["source"])[1:]) == SETS["source"]
    labels = section("### Labels")
    assert set(PARTIES) <= set(WORD.findall(labels))
    assert {WORD.findall(pattern)[0].split()[0] for pattern, _ in rows("### Labels")} == set(LABELS_BY)


def test_every_field_severity_and_bound_is_that_of_the_code() -> None:
    fields = {cells[0].strip("`"): cells[1] for cells in rows("## A rule's fields")}
    assert set(fields) == set(FIELDS)
    assert WORD.findall(fields["severity"]) == [severity.name for severity in Severity]
    assert f"{ALERTS_PER_HOUR} if it does not say so" in fields["alerts_per_hour"]
    assert f"At most {MOST_RULES} rules are kept by name, of at most {MOST_COMPARISONS} comparisons each" in PAGE


def test_the_shipped_rules_are_those_that_ship() -> None:
    assert sorted(cells[0].strip("`") for cells in rows("## What comes with txwatch")) == shipped_names()


def test_the_examples_are_rules_and_comparisons() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [parse_rule(read_yaml(example)).name for example in examples] == ["my-fees"]
    for cells in rows("## What `when` can say"):
        for text in WORD.findall(cells[0]):
            comparison(text)


def test_the_error_of_the_tutorial_is_what_is_said() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    with pytest.raises(RuleError) as error:
        parse_rule(read_yaml(example.replace("fee_sat >=", "fee >=").replace("5 %", "5 pct")))
    assert f"txwatch: {error.value}\n" in PAGE


def test_the_commands_exist() -> None:
    commands = get_command(app).commands["rules"].commands  # type: ignore[attr-defined]
    named = set(re.findall(r"txwatch rules ([a-z-]+)", PAGE))
    assert named == set(commands)
