"""What is read of TagPacks and CSV, and how an error names the place."""

from datetime import date
from pathlib import Path

import pytest

from txwatch.labels.files import LabelFileError, read_labels
from txwatch.labels.label import Label

GENESIS = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
SEGWIT = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
TAG_PACK = f"""
title: Reserves
creator: somebody
category: exchange
confidence: service_data
source: https://example.org/reserves
lastmod: 2022-11-16
actor: acme
tags:
- address: '{GENESIS}'
  currency: BTC
  label: acme cold
- address: {SEGWIT.upper()}
  currency: BTC
  label: acme hot
  confidence: ownership
- address: '0xbe0eb53f46cd790cd13851d5eff43d12404d33e8'
  currency: ETH
  label: acme on another chain
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_tags_inherit_from_the_head_of_their_tag_pack(tmp_path: Path) -> None:
    read = read_labels(written(tmp_path, "pack.yaml", TAG_PACK))
    source, day = "https://example.org/reserves", date(2022, 11, 16)
    assert read.labels == [
        Label(GENESIS, source, "acme", "exchange", "service_data", "acme cold", day),
        Label(SEGWIT, source, "acme", "exchange", "ownership", "acme hot", day),
    ]
    assert read.skipped == 1


def test_the_head_may_hold_label_and_currency_and_a_tag_without_actor_is_named_by_its_label(tmp_path: Path) -> None:
    text = f"label: a list\nsource: s\ncurrency: BTC\ntags:\n- address: {GENESIS}\n"
    assert read_labels(written(tmp_path, "pack.yml", text), "sanction").labels == [
        Label(GENESIS, "s", "a list", "sanction", note="a list")
    ]


def test_a_csv_may_have_comments_anywhere_and_columns_in_any_order(tmp_path: Path) -> None:
    text = f'\ufeff# who\n\nsource,address,entity\n# Acme\nbook,{GENESIS},"Acme, Inc."\nbook,{SEGWIT},Acme\n'
    read = read_labels(written(tmp_path, "anything.csv", text))
    assert read.labels == [Label(GENESIS, "book", "Acme, Inc."), Label(SEGWIT, "book", "Acme")]


@pytest.mark.parametrize(
    ("name", "given", "category"),
    [
        ("exchange-x.csv", None, "exchange"),
        ("mixer-addresses.csv", None, "mixing_service"),
        ("notes.csv", None, "unknown"),
        ("exchange-x.csv", "custodian", "custodian"),
    ],
)
def test_the_category_of_a_csv_is_given_or_follows_from_its_name(
    tmp_path: Path, name: str, given: str | None, category: str
) -> None:
    path = written(tmp_path, name, f"address,entity,source\n{GENESIS},Acme,book\n")
    assert read_labels(path, given).labels[0].category == category


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "neither"),
        ("a.csv", "", "it is empty"),
        ("a.csv", "address,entity\n", "line 1: it must name the columns address, entity, source; source is missing"),
        ("a.csv", "address,entity,source,colour\n", "line 1: no column is named 'colour'"),
        ("a.csv", f"address,entity,source\n\n{GENESIS},Acme\n", "line 3: 2 cells, where 3 columns"),
        ("a.csv", f"address,entity,source\n{GENESIS},,book\n", "line 2: entity is empty"),
        ("a.csv", f"address,entity,source\n{GENESIS},A\0cme,book\n", "line 2: "),
        ("a.csv", f"address,entity,source\n{GENESIS},{'x' * 9_000},book\n", "line 2: its entity has 9,000 characters"),
        ("a.csv", f"address,entity,source\n{GENESIS},{'x' * 131_073},book\n", "line 2: no CSV: field larger"),
        ("a.csv", f"address,entity,source\n{GENESIS},Acme,{'x' * 3_000}\n", "line 2: its source has 3,000 characters"),
        (
            "a.yaml",
            f"label: x\nsource: s\ntags:\n- address: {GENESIS}\n  x: \0\n",
            "line 5: it holds the character NUL",
        ),
        (
            "a.yaml",
            f'label: "x\\0"\nsource: s\ntags:\n- address: {GENESIS}\n',
            "line 4, tag 1: its entity holds the character NUL",
        ),
        (
            "a.yaml",
            f"label: {'x' * 9_000}\nsource: s\ntags:\n- address: {GENESIS}\n",
            "line 4, tag 1: its entity has 9,000 characters",
        ),
        ("a.yaml", f"source: s\ntags: {'[' * 100_000}", "line 2: it is nested more than 20 deep"),
        ("a.yaml", f"source: s\ntags:\n{'- ' * 100_000}x\n", "line 3: it is nested more than 20 deep"),
        ("a.yaml", "source: s\ntags: *unknown\n", "line 2: no YAML: nothing before is named 'unknown'"),
        ("a.yaml", "source: s\n[a, b]: c\n", "line 2: the name of a field is a list"),
        ("a.yaml", "source: s\ntags: []\n---\nx: y\n", "line 3: a second document begins"),
        ("a.yaml", "source: s\nx: \x07\n", "line 2: no YAML"),
        ("a.yaml", "tags: [", "no YAML"),
        ("a.yaml", "title: x\n", "has a list named tags"),
        ("a.yaml", "source: s\ntags:\n- just text\n", "tag 1: it is no mapping"),
        ("a.yaml", f"source: s\ntags:\n- address: {GENESIS}\n", "tag 1: it has no label, and neither has the head"),
        ("a.yaml", f"label: x\ntags:\n- address: {GENESIS}\n", "tag 1: it has no source"),
        ("a.yaml", "label: x\nsource: s\ntags:\n- address: [1, 2]\n", "tag 1: address is a list"),
        ("a.yaml", f"label: x\nsource: s\nlastmod: soon\ntags:\n- address: {GENESIS}\n", "lastmod is 'soon'"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(LabelFileError) as refused:
        read_labels(path)
    assert str(path) in str(refused.value)
    assert words in str(refused.value)


def test_a_place_without_a_bitcoin_address_is_left_out_and_named(tmp_path: Path) -> None:
    csv = read_labels(written(tmp_path, "a.csv", f"address,entity,source\n0xbe0e,Acme,book\n{GENESIS},Acme,book\n"))
    pack = read_labels(
        written(tmp_path, "a.yaml", f"label: x\nsource: s\ntags:\n- address: TUCsT\n- address: {GENESIS}\n")
    )
    for read, place in ((csv, "a.csv, line 2: '0xbe0e'"), (pack, "a.yaml, line 4, tag 1: 'TUCsT'")):
        assert [label.address for label in read.labels] == [GENESIS]
        assert [place in strange for strange in read.strange] == [True]


def test_a_file_that_is_not_there_or_no_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match="no such file"):
        read_labels(tmp_path / "missing.csv")
    for name in "binary.csv", "binary.yaml":
        (tmp_path / name).write_bytes(b"# fine\naddress\xff")
        with pytest.raises(LabelFileError, match=f"{name}, line 2: it is no UTF-8"):
            read_labels(tmp_path / name)


def test_the_collected_label_files_are_read_in_full(shared_data: Path) -> None:
    files = sorted((shared_data / "labels").iterdir())
    read = [read_labels(path) for path in files]
    assert len(read) >= 14
    assert sum(len(file.labels) for file in read) > 1_500
    strange = [place for file in read for place in file.strange]
    assert len(strange) < 50, "copied with slips of the pen, or of another currency"
    assert all("checksum is wrong" in place or "is no Bitcoin address" in place for place in strange)
    assert all(label.category != "unknown" for file in read for label in file.labels)
