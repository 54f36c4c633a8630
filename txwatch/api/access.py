"""Who may do what: TXWATCH_API_KEY does all, a named key what its scopes allow, and nobody writes without one."""

import hmac
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from psycopg import OperationalError
from starlette.requests import HTTPConnection

from txwatch.api.problems import ProblemError
from txwatch.clock import utc_now
from txwatch.people.keys import OWNER, SCOPES, Scope, are_there_keys, find_key

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="A key that `txwatch keys add` made, with the scope that the route needs; or TXWATCH_API_KEY.",
)
_Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True)
class Caller:
    """Who asks. `who` as in `txwatch.people.changes`; by TXWATCH_API_KEY that is key:owner."""

    who: str
    scopes: frozenset[Scope]


BY_API_KEY = Caller(f"key:{OWNER}", frozenset(SCOPES))


def _caller(request: HTTPConnection, given: str) -> Caller | None:
    """Whose key this is, None if nobody's."""
    key = request.app.state.settings.api_key
    # Compared in constant time, so that how long a refusal takes says nothing about the key.
    if key is not None and hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        return BY_API_KEY
    with request.app.state.pool.connection() as connection:
        named = find_key(connection, given, utc_now())
        if named is not None:
            return Caller(f"key:{named.name}", frozenset(named.scopes))
        if key is None and not are_there_keys(connection):
            raise ProblemError(
                403, "writes and scoring are off: set TXWATCH_API_KEY, or make a key with `txwatch keys add`"
            )
    return None


@dataclass(frozen=True)
class Required:
    """A dependency that lets only requests pass that carry a key with this scope, and gives whose it is."""

    scope: Scope

    def __call__(self, request: HTTPConnection, credentials: _Given) -> Caller:
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None:
            caller = request.state.caller = self._caller(request, credentials)
        if self.scope not in caller.scopes:
            raise ProblemError(403, f"{caller.who} lacks the scope {self.scope}")
        return caller

    def _caller(self, request: HTTPConnection, credentials: HTTPAuthorizationCredentials | None) -> Caller:
        caller = _caller(request, "" if credentials is None else credentials.credentials)
        if caller is None:
            raise ProblemError(
                401,
                f"this needs a key with the scope {self.scope}: send `Authorization: Bearer <key>`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller


def _given_key(request: HTTPConnection) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()


def _sees_channels(request: HTTPConnection) -> bool:
    """Whether who asks may read channels. A key that is none counts as no key: reading may need none."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None and (given := _given_key(request)):
        with suppress(ProblemError):
            caller = _caller(request, given)
        if caller is not None:
            request.state.caller = caller
    return caller is not None and "manage" in caller.scopes


SeesChannels = Annotated[bool, Depends(_sees_channels)]
"""Of a route that also tells which chats get alerts, but only to who may read channels."""


async def may_go_on(connection: HTTPConnection) -> bool:
    """Whether what was let in by a key still may be: the key may have ended since. Without one needed, it may.

    Not while the database, which knows the keys, is away.
    """
    caller: Caller | None = getattr(connection.state, "caller", None)
    if caller is None:
        return True
    try:
        return await run_in_threadpool(_caller, connection, _given_key(connection)) == caller
    except (OperationalError, ProblemError):
        return False


class KeyFirst(APIRoute):
    """A route that asks for the key, if it needs one, before it reads the body.

    The framework reads the body first, so that whoever has no key could fill the memory with bodies.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        required = [one.call for one in self.dependant.dependencies if isinstance(one.call, Required)]

        async def handle_with_key(request: Request) -> Response:
            credentials = await _bearer(request)
            for ask in required:
                await run_in_threadpool(ask, request, credentials)
            return await handle(request)

        return handle_with_key if required else handle


MayScore: Any = Depends(Required("score"))
MayManage: Any = Depends(Required("manage"))
MayRead: Any = Depends(Required("read"))
"""Where TXWATCH_API_PRIVATE is set; else everybody reads whom the server answers."""
Manager = Annotated[Caller, MayManage]
