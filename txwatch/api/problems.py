"""Errors as RFC 9457 problem details: every answer of 400 and above has this form, also those of the framework."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg import OperationalError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from txwatch.queries.paging import BadCursorError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
MAX_REPEATED = 300
"""Characters of what was sent that an answer repeats in one place: of the path, of a field's name, of an error."""


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
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.errors = status, detail, dict(headers or {}), list(errors)


def problem_document(scope_path: str, request_id: str, error: ProblemError) -> dict[str, Any]:
    """The document of an error."""
    return Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail[: 4 * MAX_REPEATED],
        instance=scope_path[:MAX_REPEATED],
        request_id=request_id,
        errors=error.errors,
    ).model_dump()


def problem_response(request: Request, error: ProblemError) -> JSONResponse:
    """The answer to a request that failed."""
    request_id = str(request.scope.get("state", {}).get("request_id", ""))
    return JSONResponse(
        problem_document(request.url.path, request_id, error),
        status_code=error.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its OpenAPI description. Those that every route can have are added to these."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 403, 422, 429, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, ProblemError):
            raise error
        return problem_response(request, error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        errors = [
            FieldError(where=".".join(map(str, e["loc"]))[:MAX_REPEATED], message=e["msg"]) for e in found[:MAX_ERRORS]
        ]
        detail = "; ".join(f"{e.where}: {e.message}" for e in errors[:3])
        return problem_response(request, ProblemError(422, detail, errors=errors))

    async def http(request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        detail = str(error.detail) if error.detail != HTTPStatus(error.status_code).phrase else ""
        return problem_response(request, ProblemError(error.status_code, detail, headers=error.headers))

    async def bad_cursor(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, ProblemError(400, str(error)))

    async def away(request: Request, error: Exception) -> JSONResponse:
        log.warning("database_away", error=str(error))
        answer = ProblemError(503, "the database cannot be reached just now", headers={"Retry-After": "5"})
        return problem_response(request, answer)

    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(BadCursorError, bad_cursor)
    for kind in (OperationalError, PoolTimeout):
        app.add_exception_handler(kind, away)
