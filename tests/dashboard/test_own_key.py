"""What a page asks the API by a visitor's key, and what it makes of answers."""

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.answering import answering
from tests.waiting import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("streamlit") is None, reason="Streamlit is not installed"),
    # Streamlit's own code warns under test.
    pytest.mark.filterwarnings("ignore"),
]
KEY = "a-key-of-ones-own"


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    import streamlit as st

    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def page(environment: pytest.MonkeyPatch, api: str) -> Any:
    from streamlit.testing.v1 import AppTest

    environment.setenv("TXWATCH_API_URL", api)
    call = f"from txwatch.dashboard.own_key import call\nimport streamlit as st\nst.json(call('GET', '/x', '{KEY}'))"
    return AppTest.from_string(call, default_timeout=PATIENCE_SECONDS).run()


def test_the_key_goes_to_the_api_and_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, {}, lambda: iter([b'{"by": "a proxy"}'])) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with answering(200, {}, lambda: iter([b'{"by": "the API"}'])) as api:
            assert json.loads(page(monkeypatch, api).json[0].value) == {"by": "the API"}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (502, b"<html>", "The API does not answer just now."),
        (200, b"<html>", "The API does not answer just now."),
        (403, b"[]", "403"),
        (403, b'{"detail": "no"}', "no"),
    ],
)
def test_what_answers_in_place_of_the_api_is_said(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    with answering(status, {}, lambda: iter([body])) as api:
        app = page(monkeypatch, api)
    assert not app.exception
    assert [error.value for error in app.error] == [said]
