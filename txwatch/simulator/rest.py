"""The local feed's REST answers: blocks of a day, whole blocks, single transactions.

Belongs here: paths, status codes and the limit on requests. The facts come from `chain.py`.
"""

from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

from txwatch.clock import Clock
from txwatch.simulator.chain import Chain


class RestApi:
    """Answers GET requests from the chain.

    A request nearer than `interval_seconds` to the last one that was let through gets 429, as from the real service.
    """

    def __init__(self, chain: Chain, now: Clock, interval_seconds: float = 0.0) -> None:
        self._chain = chain
        self._now = now
        self._interval = timedelta(seconds=interval_seconds)
        self._last: datetime | None = None

    def answer(self, target: str) -> Response:
        """The response to one request target, such as `/blocks/1710374400000?format=json`. Always JSON."""
        now = self._now()
        if self._last is not None and now - self._last < self._interval:
            return _error(HTTPStatus.TOO_MANY_REQUESTS, "too many requests")
        self._last = now
        match urlsplit(target).path.split("/")[1:]:
            case ["blocks", milliseconds]:
                return self._blocks(milliseconds)
            case ["rawblock", block_hash]:
                block = self._chain.block(block_hash)
                return _not_found("block") if block is None else _json(HTTPStatus.OK, block.raw())
            case ["rawtx", txid]:
                body = self._chain.transaction(txid)
                return _not_found("transaction") if body is None else _json(HTTPStatus.OK, body)
        return _not_found("page")

    def _blocks(self, milliseconds: str) -> Response:
        try:
            summaries = self._chain.on_day(int(milliseconds))
        except (ValueError, OverflowError, OSError):
            return _not_found("day")
        return _json(HTTPStatus.OK, msgspec.json.encode(summaries))


def _not_found(what: str) -> Response:
    return _error(HTTPStatus.NOT_FOUND, f"no such {what}")


def _error(status: HTTPStatus, message: str) -> Response:
    return _json(status, msgspec.json.encode({"error": status.phrase, "message": message}))


def _json(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers()
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)
