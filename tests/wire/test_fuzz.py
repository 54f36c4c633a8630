"""The decoder under generated input: hypothesis here, and the first inputs of the fuzzer that `make fuzz` runs."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import utx
from tests.wire.fuzz import Fuzzer, fit

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = ["hash", "size", "inputs", "out", "ver", "lock_time", "time", "vin_sz", "vout_sz"]


def test_the_first_inputs_of_the_fuzzer() -> None:
    fuzzer = Fuzzer(seed=1)
    for _ in range(20_000):
        fuzzer.one()
    assert min(fuzzer.outcomes[kind] for kind in ("valid, came back exactly", "understood", "refused")) > 100


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    fit(body)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(fields), json_values, min_size=1, max_size=3))
def test_any_value_in_any_field_is_understood_or_refused(changes: dict) -> None:
    fit(utx(**changes))


@settings(max_examples=300)
@given(json_values)
def test_any_json_is_understood_or_refused(value: object) -> None:
    fit(json.dumps(value).encode())
    fit(json.dumps({"op": "utx", "x": value}).encode())
    fit(json.dumps({"op": value}).encode())
