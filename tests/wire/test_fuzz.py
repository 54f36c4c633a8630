"""The decoders under generated input: hypothesis here, and the first inputs of the fuzzers that `make fuzz` runs."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import mempool_transaction, utx
from tests.wire.fuzz import Fuzzer, MempoolSpaceFuzzer, fit, fit_for_mempool_space

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class Format(NamedTuple):
    """A format of messages: its fuzzer, its check, the fields of a transaction, one with changes, and wrappings."""

    fuzzer: type[Fuzzer] | type[MempoolSpaceFuzzer]
    check: Callable[[bytes], object]
    fields: list[str]
    changed: Callable[[dict[str, Any]], bytes]
    wrapped: Callable[[object], list[object]]


FORMATS = {
    "blockchain.info": Format(
        Fuzzer,
        fit,
        ["hash", "size", "inputs", "out", "ver", "lock_time", "time", "vin_sz", "vout_sz"],
        lambda changes: utx(**changes),
        lambda value: [value, {"op": "utx", "x": value}, {"op": value}],
    ),
    "mempool.space": Format(
        MempoolSpaceFuzzer,
        fit_for_mempool_space,
        sorted(mempool_transaction()),
        lambda changes: json.dumps(mempool_transaction(**changes)).encode(),
        lambda value: [value, {"mempool-transactions": value, "block": value}],
    ),
}
each_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


@each_format
def test_the_first_inputs_of_the_fuzzer(form: Format) -> None:
    fuzzer = form.fuzzer(seed=1)
    for _ in range(20_000):
        fuzzer.one()
    assert min(fuzzer.outcomes[kind] for kind in ("valid, came back exactly", "understood", "refused")) > 100


@each_format
@settings(max_examples=300)
@given(body=st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(form: Format, body: bytes) -> None:
    form.check(body)


@each_format
@settings(max_examples=500)
@given(data=st.data())
def test_any_value_in_any_field_is_understood_or_refused(form: Format, data: st.DataObject) -> None:
    changes = data.draw(st.dictionaries(st.sampled_from(form.fields), json_values, min_size=1, max_size=3))
    form.check(form.changed(changes))


@each_format
@settings(max_examples=300)
@given(value=json_values)
def test_any_json_is_understood_or_refused(form: Format, value: object) -> None:
    for one in form.wrapped(value):
        form.check(json.dumps(one).encode())
