"""Alerts, their deliveries, and what people say of them."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from txwatch.alerts.store import Precision, Verdict, read_precision, record_verdict
from txwatch.api.access import KeyFirst, Manager, SeesChannels
from txwatch.api.problems import documented, found
from txwatch.api.routes.parameters import AlertKey, Database, Hours, Kind, Seen
from txwatch.clock import utc_now
from txwatch.queries.alerts import AlertDetail, AlertSummary, list_alerts, read_alert
from txwatch.queries.paging import Page

router = APIRouter(prefix="/v1", tags=["alerts"], route_class=KeyFirst)


class Feedback(BaseModel):
    """What a person thinks of an alert."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict


@router.get("/alerts", summary="Alerts, newest first", responses=documented())
def alerts(
    private: SeesChannels,  # before the connection, for it takes one too
    database: Database,
    seen: Seen,
    kind: Kind = None,
    severity: Annotated[Literal["low", "medium", "high", "critical"] | None, Query()] = None,
    state: Annotated[
        Literal["pending", "sending", "sent", "digested", "uncertain", "dead"] | None,
        Query(description="That of one of its deliveries."),
    ] = None,
    late: Annotated[bool | None, Query(description="Recovered or backfilled.")] = None,
) -> Page[AlertSummary]:
    """Those that chats got, or will get. Those that name a chat need a key with the scope `manage`."""
    return list_alerts(database, **seen, kind=kind, severity=severity, state=state, late=late, private=private)


@router.get("/alerts/{alert_key}", summary="One alert", responses=documented(404))
def alert(private: SeesChannels, database: Database, alert_key: AlertKey) -> AlertDetail:
    """With each delivery, and what became known later."""
    return found(read_alert(database, alert_key, private=private), "there is no alert with this key")


@router.post(
    "/alerts/{alert_key}/feedback",
    summary="Say whether an alert was useful",
    responses=documented(401, 404, 413),
)
def feedback(database: Database, caller: Manager, alert_key: AlertKey, feedback: Feedback) -> AlertDetail:
    """A later verdict by the same key replaces an earlier one.

    From verdicts follows the precision of each kind and model version.
    """
    record_verdict(database, alert_key, feedback.verdict, utc_now(), caller.who)
    return alert(True, database, alert_key)


@router.get("/precision", summary="How useful alerts were", responses=documented())
def precision(database: Database, hours: Hours = 168) -> list[Precision]:
    """Of the alerts that people judged, how many were useful, by kind and model version."""
    return read_precision(database, utc_now() - timedelta(hours=hours))
