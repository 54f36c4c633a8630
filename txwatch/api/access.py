"""Who may do what: reading is open to whoever reaches the server, writing and scoring need the key.

Without a key the server answers loopback only, and refuses writes and scoring altogether.
"""

import hmac
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from txwatch.api.problems import ProblemError, problem_response

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="The value of TXWATCH_API_KEY.")


def require_key(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Let only requests pass that carry the key. Raises ProblemError."""
    key = request.app.state.settings.api_key
    if key is None:
        raise ProblemError(403, "writes and scoring are off: set TXWATCH_API_KEY to allow them")
    given = "" if credentials is None else credentials.credentials
    # Compared in constant time, so that how long a refusal takes says nothing about the key.
    if not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
        raise ProblemError(
            401, "this needs the key: send `Authorization: Bearer <key>`", headers={"WWW-Authenticate": "Bearer"}
        )


KeyRequired = Depends(require_key)


class LoopbackOnly:
    """Refuses what does not come from this machine. By which name it was asked is the guard's question."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            request = Request(scope)
            if not (request.client and _is_loopback(request.client.host)):
                error = ProblemError(403, "without TXWATCH_API_KEY this answers on loopback only")
                await problem_response(request, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
