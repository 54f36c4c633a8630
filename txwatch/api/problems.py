"""Errors as problem details (RFC 9457), also those of the framework: every answer of 400 and above has this form."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from psycopg import OperationalError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match, Route

from txwatch.queries.history import ArchiveBusyError
from txwatch.queries.paging import BadCursorError

log = structlog.get_logger(__name__)
T = TypeVar("T")

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
MAX_REPEATED = 300
"""Characters that an answer repeats of a path, of a field's name, or of what is wrong with it."""


class FieldError(BaseModel):
    """One part of a request that was wrong."""

    where: str = Field(examples=["query.limit"])
    message: str = Field(examples=["Input should be less than or equal to 500"])


class Problem(BaseModel):
    """What went wrong, by RFC 9457. `type` names the kind of problem, `detail` what to do about this one."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field("", examples=["no transaction has this txid"])
    instance: str = Field("", examples=["/v1/transactions/23f6"])
    request_id: str = Field("", examples=["0198c0de7d1d"])
    errors: list[FieldError] = []


class ProblemError(Exception):
    """An error whose text is the answer."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.errors = status, detail, dict(headers or {}), list(errors)


def problem_response(request: HTTPConnection, error: ProblemError) -> JSONResponse:
    """The answer to a request that failed, or to a WebSocket instead of its opening."""
    problem = Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail[: 4 * MAX_REPEATED],
        instance=request.url.path[:MAX_REPEATED],
        request_id=correlation_id.get() or "",
        errors=error.errors,
    )
    return JSONResponse(problem.model_dump(), error.status, error.headers, MEDIA_TYPE)


def found(value: T | None, missing: str) -> T:
    """The value. Raises ProblemError if there is none."""
    if value is None:
        raise ProblemError(404, missing)
    return value


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route for its OpenAPI description: these, and those that every route can have."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 403, 422, 500, 503})
    }


def _allowed(request: Request, routes: Iterable[BaseRoute]) -> str:
    """The methods of a path, of all its routes: Starlette names those of the first one alone."""
    of_path = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(
        sorted({method for route in of_path if isinstance(route, Route) for method in route.methods or ()})
    )


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make every error of the app a problem document. `routes` are those of its routers."""

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, ValidationException) else []
        errors = [
            FieldError(where=".".join(map(str, e["loc"]))[:MAX_REPEATED], message=e["msg"][:MAX_REPEATED])
            for e in found[:MAX_ERRORS]
        ]
        detail = "; ".join(f"{e.where}: {e.message}" for e in errors[:3])
        return problem_response(request, ProblemError(422, detail, errors=errors))

    async def http(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        detail = str(error.detail) if error.detail != HTTPStatus(error.status_code).phrase else ""
        headers = (
            {"Allow": _allowed(request, routes)}
            if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
            else error.headers
        )
        return problem_response(request, ProblemError(error.status_code, detail, headers=headers))

    async def own(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, error if isinstance(error, ProblemError) else ProblemError(400, str(error)))

    async def busy(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, ProblemError(503, str(error), headers={"Retry-After": "2"}))

    async def away(request: Request, error: Exception) -> JSONResponse:
        log.warning("database_away", error=str(error))
        answer = ProblemError(503, "the database cannot be reached just now", headers={"Retry-After": "5"})
        return problem_response(request, answer)

    app.add_exception_handler(ProblemError, own)
    app.add_exception_handler(BadCursorError, own)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(WebSocketRequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ArchiveBusyError, busy)
    app.add_exception_handler(OperationalError, away)
