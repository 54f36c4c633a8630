"""The playlist: a capture at an even rate, then simulated traffic, all of it when it is due."""

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.builders import T0, labelled, numbered_utx, utx
from txwatch.captures import CaptureError
from txwatch.lab.simulator.feed import FIRST_WHALE_WITHIN_SECONDS, Played, Playlist, restamped
from txwatch.lab.simulator.plants import PEELED_SHARE
from txwatch.lab.simulator.traffic import Simulator

SECOND = timedelta(seconds=1)


def playlist(capture: Path | None = None, rate: float | None = None, regime: str = "2024-03") -> Playlist:
    return Playlist(capture=capture, rate=rate, regime=regime, seed=1)


def txid(played: Played) -> str:
    return str(json.loads(played.message)["x"]["hash"])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Four messages: labelled, plain, malformed, plain."""
    path = tmp_path / "capture.jsonl"
    lines = [labelled(numbered_utx(1), "coinjoin:test"), numbered_utx(2), utx(hash="zz", size=3), numbered_utx(4)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_nothing_is_played_before_it_begins() -> None:
    quiet = playlist()
    assert list(quiet.until(T0 + 60 * SECOND)) == []
    quiet.begin(T0)
    quiet.begin(T0 + 60 * SECOND)
    assert next(quiet.until(T0 + 60 * SECOND)).at < T0 + 5 * SECOND, "a second beginning changes nothing"


def test_a_capture_is_played_at_an_even_rate_with_its_labels_and_without_its_meta(capture: Path) -> None:
    played = playlist(capture, rate=2.0)
    played.begin(T0)
    first = list(played.until(T0 + 1.2 * SECOND))
    assert [p.at for p in first] == [T0, T0 + 0.5 * SECOND, T0 + SECOND]
    assert [p.labels for p in first] == [("coinjoin:test",), (), ()]
    assert all(b"meta" not in p.message for p in first)
    assert txid(next(played.until(T0 + 1.6 * SECOND))) == f"{4:064x}"


def test_a_capture_is_restamped_and_what_is_malformed_stays_as_it_is(capture: Path) -> None:
    played = playlist(capture, rate=2.0)
    played.begin(T0)
    now = T0 + 1.9 * SECOND
    good, _, malformed, _ = played.until(now)
    assert json.loads(good.message)["x"] == json.loads(numbered_utx(1, time=int(now.timestamp())))["x"]
    assert malformed.message == json.dumps(json.loads(utx(hash="zz", size=3))).encode()
    assert restamped(b'{"op":"block"}', now) == b'{"op":"block"}'


def test_simulated_traffic_follows_a_capture_at_the_default_rate(capture: Path) -> None:
    played = playlist(capture, rate=2.0)
    played.begin(T0)
    after = list(played.until(T0 + 120 * SECOND))[4:]
    expected = list(
        Simulator(
            seed=1,
            start=T0 + 2 * SECOND,
            peeled_share=PEELED_SHARE,
            first_whale_within=FIRST_WHALE_WITHIN_SECONDS,
        ).until(T0 + 120 * SECOND)
    )
    assert [(p.at, p.message, p.labels) for p in after] == [(tx.at, tx.message, tx.labels) for tx in expected]
    assert any(p.labels for p in after)


def test_without_a_capture_the_rate_is_the_simulators() -> None:
    played = playlist(rate=50.0)
    played.begin(T0)
    moments = [p.at for p in played.until(T0 + 60 * SECOND)]
    assert len(moments) == pytest.approx(3_000, rel=0.1)
    assert all(a <= b for a, b in pairwise(moments))


@pytest.mark.parametrize(
    "bad",
    [
        b"{nonsense",
        b"[1]",
        b'{"op":"\xff"}',
        b'{"x":' + b"[" * 100_000,
        labelled(utx()).replace(b"[]", b"7"),
    ],
)
def test_a_bad_line_is_named_with_its_file(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "broken.jsonl.gz"
    path.write_bytes(gzip.compress(utx() + b"\n" + utx() + b"\n" + bad + b"\n"))
    played = playlist(path, rate=1.0)
    played.begin(T0)
    with pytest.raises(CaptureError, match=r"broken\.jsonl\.gz, line 3: "):
        list(played.until(T0 + 60 * SECOND))


@pytest.mark.parametrize("damage", [lambda body: body[:-20], lambda body: body[:40] + b"z" * 60, lambda _: utx()])
def test_a_broken_gzip_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "broken.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b"\n".join(numbered_utx(n) for n in range(1_000)))))
    played = playlist(path, rate=1_000.0)
    with pytest.raises(CaptureError, match=r"broken\.jsonl\.gz, line \d+: the gzip file is broken"):
        play_all(played)


def play_all(played: Playlist) -> None:
    played.begin(T0)
    list(played.until(T0 + 60 * SECOND))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="it must be a number above 0"):
        playlist(rate=rate)


def test_an_unknown_regime_and_a_missing_capture_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 2024-03, 2024-10, 2025-07"):
        playlist(regime="2010-05")
    with pytest.raises(CaptureError, match=r"no capture at .*gone\.jsonl"):
        playlist(tmp_path / "gone.jsonl")
