"""A Bitcoin node's JSON-RPC: single calls, and batches of bounded size, each decoded into the type that is asked for.

It is synchronous: recovery calls it directly, sources by `asyncio.to_thread`. User and password are in no text of it.
"""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import httpx
import msgspec

from txwatch.answers import BoundedClient, EndlessAnswerError
from txwatch.errors import UserError
from txwatch.sources.source import SourceAwayError

TIMEOUT_SECONDS = 60.0
"""Seconds; a node that connects a block answers after it."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 300.0
"""Seconds for a whole answer; one that trickles would hold up all that is asked."""
BATCH = 500
"""Calls in one request: the answers of `gettxout` are some 200 kB."""
MAX_BYTES = 512 << 20
"""Bytes of an answer; a block with the coins that it spends takes some dozens of megabytes."""
_WARMING_UP = -28

T = TypeVar("T")


class RpcUrlError(UserError):
    """BITCOIN_RPC_URL is no address of a node. The message leaves it out: it holds a password."""


class NodeAwayError(SourceAwayError):
    """The node cannot be reached, does not let us in, or is starting."""


class RpcError(SourceAwayError):
    """The node refused a call. `code` is its own."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"the node refuses {method}: {message} ({code})")
        self.code = code


class _Refusal(msgspec.Struct):
    code: int
    message: str


class _Answer(msgspec.Struct, Generic[T]):
    result: T | None = None
    error: _Refusal | None = None
    id: int | None = None


class _Call(msgspec.Struct, tag_field="jsonrpc", tag="1.0"):
    """A struct, since a batch has thousands of them: it is made and encoded in a third of a dictionary's time."""

    id: int
    method: str
    params: Sequence[object]


class BitcoinRpc:
    """The node at `url`, http://user:password@host:port. `transport` is for tests. Raises RpcUrlError."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or port is None or parts.scheme not in {"http", "https"}:
            raise RpcUrlError("BITCOIN_RPC_URL must be http://user:password@host:port")
        self.where = f"{host}:{port}"
        netloc = f"[{host}]:{port}" if ":" in host else self.where
        self._url = f"{parts.scheme}://{netloc}{parts.path or '/'}"
        self._client = BoundedClient(
            MAX_BYTES,
            ANSWER_SECONDS,
            auth=(unquote(parts.username or ""), unquote(parts.password or "")),
            timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"BitcoinRpc({self.where})"

    def close(self) -> None:
        """End its calls, and close its connections; the next call opens another."""
        self._client.close()

    def call(self, kind: type[T], method: str, *params: object) -> T:
        """What the node answers to one call. Raises RpcError, or NodeAwayError."""
        decoder: msgspec.json.Decoder[_Answer[T]] = _decoder(_Answer[kind])  # type: ignore[valid-type]
        answer = _decoded(decoder, self._post(method, _Call(0, method, params)), method)
        if answer.error is not None or answer.result is None:
            raise _refused(method, answer.error)
        return answer.result

    def batch(self, kind: type[T], method: str, calls: Sequence[Sequence[object]], size: int = BATCH) -> list[T | None]:
        """The answers to calls of one method, in their order; None where the node refuses one or has nothing.

        Raises RpcError if it refuses the batch, or NodeAwayError.
        """
        decoder: msgspec.json.Decoder[list[_Answer[T]]] = _decoder(list[_Answer[kind]])  # type: ignore[valid-type]
        answers: list[T | None] = []
        for some in chunks(calls, size):
            request = [_Call(n, method, params) for n, params in enumerate(some)]
            decoded = _decoded(decoder, self._post(method, request), method)
            by_id = {answer.id: answer for answer in decoded}
            for n in range(len(some)):
                if (answer := by_id.get(n)) is None:
                    raise NodeAwayError(f"the node at {self.where} left calls of {method} in a batch unanswered")
                if answer.error is not None and answer.error.code == _WARMING_UP:
                    raise _refused(method, answer.error)
                answers.append(answer.result)
        return answers

    def _post(self, method: str, request: object) -> bytes:
        try:
            response = self._client.request(
                "POST", self._url, content=_encode(request), headers={"Content-Type": "application/json"}
            )
        except EndlessAnswerError as error:
            raise NodeAwayError(f"the node's answer to {method} has {error}") from None
        except httpx.ConnectError:
            raise NodeAwayError(f"no node answers at {self.where}: is it running, with server=1?") from None
        except httpx.TimeoutException:
            raise NodeAwayError(f"the node at {self.where} did not answer {method} in time") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise NodeAwayError(f"the connection to {self.where} broke: {type(error).__name__}") from None
        status = response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            raise NodeAwayError(f"the node at {self.where} refuses the user and password of BITCOIN_RPC_URL")
        if status == HTTPStatus.FORBIDDEN:
            raise NodeAwayError(f"the node at {self.where} forbids {method}: see rpcallowip and rpcwhitelist")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise NodeAwayError(f"the node at {self.where} has too many calls to answer: raise its rpcworkqueue")
        # Errors of single calls come with other states too, but as JSON.
        if status != HTTPStatus.OK and not response.content.startswith((b"{", b"[")):
            raise NodeAwayError(f"what answers at {self.where} is no Bitcoin node: status {status}")
        return response.content


_encode = msgspec.json.Encoder().encode


_decoders: dict[object, Any] = {}


def _decoder(kind: object) -> Any:
    """The decoder of a type, made once: as many are kept as there are types of answers."""
    return _decoders.get(kind) or _decoders.setdefault(kind, msgspec.json.Decoder(kind))


_alone: msgspec.json.Decoder[_Answer[msgspec.Raw]] = msgspec.json.Decoder(_Answer[msgspec.Raw])


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, method: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        # A whole batch is refused with one answer, which says why.
        try:
            alone = _alone.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            alone = _Answer()
        if alone.error is not None:
            raise _refused(method, alone.error) from None
        raise NodeAwayError(f"the node's answer to {method} cannot be read: {error}") from None


def _refused(method: str, error: _Refusal | None) -> SourceAwayError:
    if error is None:
        return NodeAwayError(f"the node answers nothing to {method}")
    if error.code == _WARMING_UP:
        return NodeAwayError(f"the node is starting: {error.message}")
    return RpcError(method, error.code, error.message)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in their order, at most `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
