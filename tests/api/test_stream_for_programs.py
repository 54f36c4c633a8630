"""The stream as a WebSocket: whoever is cut and comes back misses nothing, and whoever never reads holds nobody up."""

import asyncio
import json
import logging
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.requests import HTTPConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.uri import parse_uri

from tests.api.alerts import alert
from tests.builders import transaction
from tests.databases import empty_tables
from tests.serving import KEY, serving, settings_of
from tests.waiting import PATIENCE_SECONDS, wait_until
from txwatch import guard
from txwatch.alerts.store import AlertUpdate, insert_alerts, insert_updates
from txwatch.api import broadcast
from txwatch.api.app import WEBSOCKETS
from txwatch.api.broadcast import RECENT, UNKNOWN, Stream
from txwatch.api.problems import ProblemError
from txwatch.api.routes import stream
from txwatch.clock import utc_now
from txwatch.detection.kinds import Severity
from txwatch.people.keys import add_key, revoke_key
from txwatch.store.database import connect
from txwatch.store.prices import insert_price
from txwatch.store.retention import drop_expired
from txwatch.store.transactions import land_transactions
from txwatch.wire.messages import SAT_PER_BTC
from txwatch.wire.prices import Price

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
def address(database_url: str, tmp_path: Path) -> Iterator[str]:
    with serving(settings_of(database_url, tmp_path)) as url:
        yield url


def opened(address: str, query: str = "", **options: Any) -> ClientConnection:
    url = f"{address.replace('http', 'ws')}/v1/stream/ws?{query}"
    # A client of this library that has stopped reading would wait for the answer to its closing.
    return open_websocket(url, ping_interval=None, open_timeout=PATIENCE_SECONDS, close_timeout=0, **options)


def told(websocket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(websocket.recv(timeout=PATIENCE_SECONDS))
    return message


def begun(websocket: ClientConnection) -> int:
    """The number after which it begins."""
    begin = told(websocket)
    assert begin == {"type": "begin", "after": begin["after"], "complete": True}
    return int(begin["after"])


def keys(websocket: ClientConnection, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        message = told(websocket)
        if message["type"] == "alert":
            found.append(message["alert_key"])
    return found


def refused(address: str, query: str = "", **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refusal:
        opened(address, query, **options)
    response = refusal.value.response
    return response.status_code, json.loads(response.body) if response.body else {}


def test_whoever_is_cut_at_any_moment_and_comes_back_misses_nothing_and_gets_nothing_twice(
    address: str, database_url: str
) -> None:
    count, chance = 10_000, random.Random(22)  # noqa: S311 - repeatable, no secret
    found: list[str] = []
    numbers: list[int] = []

    def insert_out_of_order() -> None:
        """By two connections: what is committed first was raised last."""
        raised, chances = 0, random.Random(7)  # noqa: S311 - repeatable, no secret
        with connect(database_url) as slow, connect(database_url) as fast:
            while raised < count:
                sizes = [min(chances.randint(1, 120), count - raised) for _ in range(2)]
                earlier = [alert(n) for n in range(raised, raised + sizes[0])]
                later = [alert(n) for n in range(raised + sizes[0], min(raised + sum(sizes), count))]
                with slow.transaction():
                    insert_alerts(slow, earlier, [])
                    insert_alerts(fast, later, [])
                    if later and chances.random() < 0.1:
                        key = later[-1].alert_key
                        wait_until(lambda key=key: key in found, "the client has what was raised last")
                raised += len(earlier) + len(later)

    with opened(address) as websocket:
        after = begun(websocket)
    with ThreadPoolExecutor(1) as pool:
        inserting = pool.submit(insert_out_of_order)
        while len(found) < count:
            with opened(address, f"after={after}") as websocket:
                assert begun(websocket) == after
                for _ in range(chance.randint(0, 600)):
                    message = told(websocket)
                    if message["type"] == "alert":
                        after = message["sequence"]
                        numbers.append(after)
                        found.append(message["alert_key"])
                    if len(found) == count:
                        break
                if chance.random() < 0.5:  # without a word, and with messages under way
                    websocket.socket.shutdown(socket.SHUT_RDWR)
        inserting.result()
    assert sorted(found) == [f"{n:064x}" for n in range(count)]
    assert numbers == sorted(numbers)
    with opened(address, f"after={after}") as websocket, connect(database_url) as connection:
        insert_alerts(connection, [alert(count)], [])
        assert keys(websocket, 1) == [f"{count:064x}"]


@contextmanager
def sleeping(address: str) -> Iterator[Iterator[dict[str, Any] | Close]]:
    """A client that reads only when it is asked for the next message, and then answers no pings."""
    protocol = ClientProtocol(parse_uri(f"{address.replace('http', 'ws')}/v1/stream/ws"))
    with closing(socket.socket()) as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        narrow.connect(("127.0.0.1", int(address.rsplit(":", 1)[1])))
        protocol.send_request(protocol.connect())
        narrow.sendall(b"".join(protocol.data_to_send()))

        def messages() -> Iterator[dict[str, Any] | Close]:
            while data := narrow.recv(65_536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        yield json.loads(event.data)
            assert protocol.close_rcvd is not None
            yield protocol.close_rcvd

        yield messages()


def test_one_that_never_reads_holds_nobody_up_and_is_told_and_cut_once_it_reads(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the others take: what ends it for good is in test_guard.py.
    monkeypatch.setattr(guard, "PART_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setitem(WEBSOCKETS, "ws_ping_interval", None)
    count, size, first = 5 * RECENT, 3_000, 100_000
    wanted = [f"{n:064x}" for n in range(first, first + count)]
    with (
        serving(settings_of(database_url, tmp_path)) as address,
        connect(database_url) as connection,
        opened(address) as reader,
        sleeping(address) as sleeper,
    ):
        after = begun(reader)
        assert next(sleeper) == {"type": "begin", "after": after, "complete": True}
        with connection.transaction():
            insert_alerts(connection, [alert(n, size * "x") for n in range(first, first + count)], [])
        assert keys(reader, count) == wanted
        # It wakes up, takes what was under way, and learns that it must come back.
        found: list[str] = []
        for message in sleeper:
            if isinstance(message, Close):
                assert (message.code, message.reason.partition(":")[0]) == (1013, "too slow")
                break
            if message["type"] == "alert":
                after = message["sequence"]
                found.append(message["alert_key"])
            else:
                # On a machine so slow that it lasts, also where it is.
                assert message in [{"type": type_, "after": after} for type_ in ("slow", "position")]
        with opened(address, f"after={after}") as again:
            assert begun(again) == after
            found += keys(again, count - len(found))
    assert found == wanted


def test_a_client_gets_what_it_chose(address: str, database_url: str) -> None:
    now = utc_now()
    raised = {
        200_001: {"kinds": ["whale", "dormant_coins"], "severity": Severity.high},
        200_002: {"kinds": ["dust_storm"], "severity": Severity.low},
        200_003: {"kinds": ["rule:large-in"], "severity": Severity.medium},
        200_004: {"kinds": ["whale"], "severity": Severity.critical},
    }
    bitcoins = {200_001: 600, 200_002: 1.1, 200_003: 50, 200_004: 30}
    choices = {
        "": [200_001, 200_002, 200_003, 200_004],
        "kind=whale": [200_001, 200_004],
        "kind=dust_storm&kind=rule:large-in": [200_002, 200_003],
        "severity=medium": [200_001, 200_003, 200_004],
        "severity=critical&kind=whale": [200_004],
        "min_btc=1.1": [200_001, 200_002, 200_003, 200_004],
        "min_btc=50": [200_001, 200_003],
        "min_usd=3000000": [200_001, 200_003],
        "min_usd=40800000&kind=whale&kind=dust_storm&severity=high": [200_001],
    }
    with connect(database_url) as connection:
        insert_price(connection, Price(68_000, now - timedelta(minutes=4), "mempool.space"), now)
        with opened(address) as websocket:
            after = begun(websocket)
        with connection.transaction():
            land_transactions(
                connection,
                [
                    transaction(txid=f"{n:064x}", value_sat=round(amount * SAT_PER_BTC), seen_at=now)
                    for n, amount in bitcoins.items()
                ],
            )
            insert_alerts(connection, [alert(n, seen_at=now, **of) for n, of in raised.items()], [])
            insert_alerts(connection, [alert(0, alert_key="system:x:1", kinds=["system"], severity=Severity.low)], [])
        last = alert(200_009, kinds=["whale", "dust_storm", "rule:large-in"], severity=Severity.critical, seen_at=now)
        with connection.transaction():
            land_transactions(connection, [transaction(txid=last.alert_key, value_sat=10**12, seen_at=now)])
            insert_alerts(connection, [last], [])
        for query, numbers in choices.items():
            with opened(address, f"after={after}&{query}") as websocket:
                wanted = [f"{n:064x}" for n in (*numbers, 200_009)]
                if not query:
                    wanted.insert(-1, "system:x:1")
                assert keys(websocket, len(wanted)) == wanted, query
        empty_tables(connection, "usd_prices")


def test_what_becomes_known_of_an_alert_is_told_with_it(address: str, database_url: str) -> None:
    now = utc_now()
    with connect(database_url) as connection, opened(address, "kind=dormant_coins") as websocket:
        begun(websocket)
        insert_alerts(connection, [alert(300_001)], [])
        key = f"{300_001:064x}"
        insert_updates(connection, [AlertUpdate(key, "confirmed:b", "confirmed", now)])
        insert_updates(connection, [AlertUpdate(key, "kind:dormant_coins", "also dormant coins", now)])
        insert_updates(connection, [AlertUpdate(key, "kind:dormant_coins", "also dormant coins", now)])
        insert_alerts(connection, [alert(300_002, kinds=["dormant_coins"])], [])
        update, next_alert = told(websocket), told(websocket)
    assert (update["type"], update["alert_key"], update["kinds"]) == ("update", key, ["whale"])
    assert update["update"]["update_key"] == "kind:dormant_coins"
    assert update["update"]["text"] == "also dormant coins"
    assert next_alert["alert_key"] == f"{300_002:064x}"
    assert next_alert["sequence"] == update["sequence"] + 1, "the same update once"


def test_a_client_that_chose_learns_where_it_is(
    address: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "POSITION_SECONDS", 0.05)
    with connect(database_url) as connection, opened(address, "kind=dormant_coins") as websocket:
        after = begun(websocket)
        assert told(websocket) == {"type": "position", "after": after}
        insert_alerts(connection, [alert(400_001)], [])
        while (message := told(websocket))["after"] == after:
            pass
    assert message == {"type": "position", "after": after + 1}


def test_several_servers_give_the_same_numbers(address: str, database_url: str, tmp_path: Path) -> None:
    with (
        serving(settings_of(database_url, tmp_path)) as other,
        connect(database_url) as connection,
        opened(address) as one,
        opened(other) as two,
    ):
        assert begun(one) == begun(two)
        for n in range(500_000, 500_100):
            insert_alerts(connection, [alert(n)], [])
        seen = [[(m["sequence"], m["alert_key"]) for m in (told(each) for _ in range(100))] for each in (one, two)]
    assert seen[0] == seen[1]
    assert [key for _, key in seen[0]] == [f"{n:064x}" for n in range(500_000, 500_100)]


def test_whoever_comes_back_too_late_is_told_that_something_is_missing(address: str, database_url: str) -> None:
    with connect(database_url) as connection:
        with opened(address) as websocket:
            after = begun(websocket)
            insert_alerts(connection, [alert(600_001), alert(600_002)], [])
            keys(websocket, 2)
        connection.execute("UPDATE alert_stream SET queued_at = 'epoch' WHERE sequence <= %s", [after + 1])
        list(drop_expired(connection, utc_now() - timedelta(days=1)))
        with opened(address, f"after={after}") as websocket:
            assert told(websocket) == {"type": "begin", "after": after + 1, "complete": False}
            assert keys(websocket, 1) == [f"{600_002:064x}"]
        with opened(address, f"after={after + 1}") as websocket:
            assert begun(websocket) == after + 1
        with opened(address, f"after={UNKNOWN}") as websocket:
            assert told(websocket) == {"type": "begin", "after": after + 2, "complete": False}


def test_pages_of_others_and_other_names_are_refused(address: str) -> None:
    assert refused(address, origin="https://evil.example")[0] == 403
    assert refused(address, additional_headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    with closing(socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])))) as rebound:
        assert refused("http://evil.example", sock=rebound)[0] == 403
    with opened(address, origin=address) as websocket:
        begun(websocket)


def test_a_private_stream_is_followed_with_a_key_in_the_header_alone(database_url: str, tmp_path: Path) -> None:
    with (
        connect(database_url) as connection,
        serving(settings_of(database_url, tmp_path, TXWATCH_API_PRIVATE=True)) as address,
    ):
        reads = add_key(connection, "reader", ["read"], utc_now())
        scores = add_key(connection, "scorer", ["score"], utc_now())
        status, problem = refused(address)
        assert (status, problem["title"]) == (401, "Unauthorized")
        assert refused(address, additional_headers={"Authorization": "Bearer wrong"})[0] == 401
        assert refused(address, additional_headers={"Authorization": f"Bearer {scores}"})[0] == 403
        assert refused(address, f"key={KEY}")[0] == 401
        for key in (KEY, reads):
            with opened(address, additional_headers={"Authorization": f"Bearer {key}"}) as websocket:
                begun(websocket)


@pytest.mark.parametrize("is_websocket", [True, False])
def test_a_private_stream_ends_when_its_key_does(
    is_websocket: bool, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "POSITION_SECONDS", 0.01)
    with (
        connect(database_url) as connection,
        serving(settings_of(database_url, tmp_path, TXWATCH_API_PRIVATE=True)) as address,
    ):
        name = f"reader {is_websocket}"
        key = {"Authorization": f"Bearer {add_key(connection, name, ['read'], utc_now())}"}
        if is_websocket:
            with opened(address, additional_headers=key) as websocket:
                for _ in range(3):
                    assert told(websocket)["type"] in {"begin", "position"}
                revoke_key(connection, name, utc_now())
                with pytest.raises(ConnectionClosed):
                    keys(websocket, 1)
            assert refused(address, additional_headers=key)[0] == 401
        else:
            with httpx.stream("GET", f"{address}/v1/stream", headers=key, timeout=PATIENCE_SECONDS) as response:
                lines = response.iter_lines()
                assert any("position" in line for line in lines)
                revoke_key(connection, name, utc_now())
                assert all("alert" not in line for line in lines), "and it has an end"


def test_a_place_is_taken_before_the_first_word() -> None:
    """Many that ask at once would all find it free until then."""
    connection = cast(
        HTTPConnection, SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(stream=Stream("postgresql:///"))))
    )

    async def taken() -> int:
        async with AsyncExitStack() as stack:
            for _ in range(stream.MAX_CLIENTS):
                source = await stack.enter_async_context(asynccontextmanager(stream._source)(connection))
            with pytest.raises(ProblemError, match="listen already"):
                await stack.enter_async_context(asynccontextmanager(stream._source)(connection))
        return source.clients

    assert asyncio.run(taken()) == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=whale&kind=wale", "there is no kind 'wale'; did you mean 'whale'?"),
        ("kind=rule:", "String should match pattern"),
        ("severity=severe", "Input should be 'low', 'medium', 'high' or 'critical'"),
        ("min_btc=-1", "greater than or equal to 0"),
        ("min_usd=nan", "less than or equal to"),
        ("after=-1", "greater than or equal to 0"),
        (f"after={2**63}", "less than or equal to"),
        ("key=secret", "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_words(
    address: str, query: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, problem = refused(address, query)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert status == 422
    assert words in problem["detail"]
    assert problem["request_id"]


def test_there_are_only_so_many_clients(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_CLIENTS", 1)
    with opened(address) as websocket:
        begun(websocket)
        status, problem = refused(address)
    assert (status, problem["detail"]) == (503, "1 clients listen already")


def test_the_documented_client_follows_and_goes_on_where_it_was_cut(address: str, database_url: str) -> None:
    [example] = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own documentation
    names["sleep"] = lambda _: None
    found: list[str] = []

    class EnoughError(Exception):
        pass

    def handle(message: dict[str, Any]) -> None:
        found.append(message["alert_key"])
        if len(found) == 2:
            raise OSError("cut")
        if len(found) == 4:
            raise EnoughError

    with opened(address) as websocket, connect(database_url) as connection:
        after = begun(websocket)
        insert_alerts(connection, [alert(n) for n in range(700_001, 700_004)], [])
        with pytest.raises(EnoughError):
            names["follow"](f"{address.replace('http', 'ws')}/v1/stream/ws?severity=high", handle, after)
    assert found == [f"{n:064x}" for n in (700_001, 700_002, 700_002, 700_003)], "the one it did not finish comes again"
