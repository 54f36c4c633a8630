"""Cases: acknowledge, assign, note and close alerts; list them, and take them away as a table."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from txwatch.alerts.cases import MAX_TEXT, Step, take_step
from txwatch.alerts.store import Verdict
from txwatch.api.access import KeyFirst, Manager, SeesChannels
from txwatch.api.problems import documented, found
from txwatch.api.routes.parameters import AlertKey, Database, Kind, LongTurn, Seen, Since, Until
from txwatch.clock import utc_now
from txwatch.people.keys import MAX_NAME
from txwatch.queries.cases import Case, CaseDetail, CaseState, all_cases, list_cases, read_case
from txwatch.queries.paging import Page
from txwatch.queries.tables import as_csv, as_parquet

router = APIRouter(prefix="/v1", tags=["cases"], route_class=KeyFirst)
MOST_EXPORTED = 100_000
MEDIA = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
Severity = Annotated[Literal["low", "medium", "high", "critical"] | None, Query()]
State = Annotated[CaseState | None, Query(description="An alert that nobody touched is open.")]
Assignee = Annotated[str | None, Query(max_length=MAX_NAME, pattern=r"^[^\x00]+$")]
Given = Annotated[Verdict | None, Query(description="The verdict with which it was closed.")]


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Acknowledge(_Step):
    """Somebody looks into it."""

    action: Literal["acknowledge"]


class Assign(_Step):
    """Who looks into it."""

    action: Literal["assign"]
    assignee: str = Field(min_length=1, max_length=MAX_NAME)


class Note(_Step):
    """What was found out."""

    action: Literal["note"]
    text: str = Field(min_length=1, max_length=MAX_TEXT)


class Close(_Step):
    """Whether it was useful, and why."""

    action: Literal["close"]
    verdict: Verdict
    text: str | None = Field(None, min_length=1, max_length=MAX_TEXT)


class Reopen(_Step):
    """It is not done after all."""

    action: Literal["reopen"]


CaseStep = Annotated[Acknowledge | Assign | Note | Close | Reopen, Field(discriminator="action")]


@router.get("/cases", summary="Cases, newest first", responses=documented())
def cases(
    private: SeesChannels,  # before the connection, for it takes one too
    database: Database,
    seen: Seen,
    kind: Kind = None,
    severity: Severity = None,
    state: State = None,
    assignee: Assignee = None,
    verdict: Given = None,
) -> Page[Case]:
    """Every alert is one. Its state follows from what people did with it.

    Those that name a chat, and Telegram's numbers of people, need a key with the scope `manage`.
    """
    chosen = {"kind": kind, "severity": severity, "assignee": assignee, "verdict": verdict}
    return list_cases(database, **seen, **chosen, state=state, private=private)


@router.get(
    "/export/cases",
    summary="Cases as CSV or Parquet",
    dependencies=[LongTurn],
    responses=documented() | {200: {"content": {media: {} for media in MEDIA.values()}}},
    response_class=Response,
)
def export(
    private: SeesChannels,  # before the connection, for it takes one too
    database: Database,
    format: Literal["csv", "parquet"] = "csv",  # noqa: A002 - the name of the parameter
    since: Since = None,
    until: Until = None,
    kind: Kind = None,
    severity: Severity = None,
    state: State = None,
    assignee: Assignee = None,
    verdict: Given = None,
) -> Response:
    """The newest 100,000 of these filters, with what `/v1/cases` shows."""
    rows = all_cases(
        database,
        MOST_EXPORTED,
        since=since,
        until=until,
        kind=kind,
        severity=severity,
        state=state,
        assignee=assignee,
        verdict=verdict,
        private=private,
    )
    body = as_csv(rows) if format == "csv" else as_parquet(rows)
    disposition = f'attachment; filename="cases.{format}"'
    return Response(body, media_type=MEDIA[format], headers={"Content-Disposition": disposition})


@router.get("/cases/{alert_key}", summary="One case", responses=documented(404))
def case(private: SeesChannels, database: Database, alert_key: AlertKey) -> CaseDetail:
    """With all that was done with it, the oldest first."""
    return found(read_case(database, alert_key, private=private), "there is no alert with this key")


@router.post("/cases/{alert_key}", summary="Do something with a case", responses=documented(401, 404, 413))
def step(database: Database, caller: Manager, alert_key: AlertKey, step: CaseStep) -> CaseDetail:
    """Acknowledge, assign, note, close or reopen it. A close's verdict is the feedback that trains the next model."""
    take_step(database, Step(alert_key, caller.who, at=utc_now(), **step.model_dump()))
    return case(True, database, alert_key)
