"""Models: list and compare them, make one the champion, go back."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request

from txwatch.api.access import Manager
from txwatch.api.problems import ProblemError, documented
from txwatch.api.routes.parameters import Database, Hours, LongTurn, Version
from txwatch.clock import utc_now
from txwatch.detection.promotions import NoSuchVersionError, NothingBeforeError, make_champion, roll_back
from txwatch.detection.registry import (
    ModelVersion,
    list_versions,
)
from txwatch.queries.models import Agreement, VersionScores, agreement, scores_by_version

router = APIRouter(prefix="/v1/models", tags=["models"])
_QUERY_VERSION = Query(pattern="^[1-9][0-9]{0,8}$", examples=["3"])


@dataclass(frozen=True)
class Comparison:
    """Two versions: how each was trained, and how they agree on what both have scored."""

    a: ModelVersion
    b: ModelVersion
    agreement: Agreement


@dataclass(frozen=True)
class Promotion:
    """The version that scores now."""

    champion: str


@router.get("", summary="All versions, newest first", dependencies=[LongTurn], responses=documented())
def models(request: Request) -> list[ModelVersion]:
    """With their aliases, parameters and metrics, as the registry has them."""
    return list_versions(request.app.state.models.registry)


@router.get("/scores", summary="How versions score", responses=documented())
def scores(database: Database, hours: Hours = 24) -> list[VersionScores]:
    """Of each version that scored lately: how many transactions, how many unusual, and at which threshold."""
    return scores_by_version(database, utc_now() - timedelta(hours=hours))


@router.get("/comparison", summary="Two versions side by side", dependencies=[LongTurn], responses=documented(404))
def comparison(
    request: Request,
    database: Database,
    a: Annotated[str, _QUERY_VERSION],
    b: Annotated[str, _QUERY_VERSION],
    hours: Hours = 24,
) -> Comparison:
    """Champion and challenger on the same traffic, where both have scored it."""
    versions = {one.version: one for one in list_versions(request.app.state.models.registry)}
    for version in (a, b):
        if version not in versions:
            raise ProblemError(404, f"there is no model version {version}")
    return Comparison(versions[a], versions[b], agreement(database, a, b, utc_now() - timedelta(hours=hours)))


@router.post(
    "/rollback", summary="Back to the champion before", dependencies=[LongTurn], responses=documented(401, 409)
)
def rollback(request: Request, database: Database, caller: Manager) -> Promotion:
    """Moves the alias; scores that were written stay."""
    try:
        champion = roll_back(database, request.app.state.models.registry, caller.who, utc_now())
    except NothingBeforeError as error:
        raise ProblemError(409, str(error)) from error
    request.app.state.models.forget()
    return Promotion(champion)


@router.post(
    "/{version}/promote",
    summary="Make a version the champion",
    dependencies=[LongTurn],
    responses=documented(401, 404),
)
def promote(request: Request, database: Database, caller: Manager, version: Version) -> Promotion:
    """Without asking the gate: whoever has the key decides. Live scoring follows within seconds."""
    try:
        champion = make_champion(database, request.app.state.models.registry, version, caller.who, utc_now())
    except NoSuchVersionError as error:
        raise ProblemError(404, str(error)) from error
    request.app.state.models.forget()
    return Promotion(champion)
