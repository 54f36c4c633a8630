"""What was found unusual, and whales."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from txwatch.api.problems import documented
from txwatch.api.routes.parameters import Database, Kind, Seen
from txwatch.clock import utc_now
from txwatch.labels.flows import FlowClass
from txwatch.labels.whales import (
    EntityTotal,
    FlowTotal,
    RecordedWhale,
    entity_totals,
    flow_totals,
    largest_whale_moves,
    list_whale_moves,
)
from txwatch.queries.alerts import Anomaly, WhaleMove, list_anomalies, list_whales
from txwatch.queries.paging import Page, Position, page_of
from txwatch.wire.messages import MAX_SUPPLY_SAT

router = APIRouter(prefix="/v1", tags=["anomalies"])
MinMoved = Annotated[int, Query(ge=0, le=MAX_SUPPLY_SAT, description="Least value likely moved, in satoshi.")]


@dataclass(frozen=True)
class WhaleTotals:
    """What whales moved in some days: by flow, to and from whom, and the largest of them. Amounts in satoshi."""

    flows: list[FlowTotal]
    entities: list[EntityTotal]
    largest: list[RecordedWhale]


@router.get("/anomalies", summary="Unusual transactions, newest first", responses=documented())
def anomalies(
    database: Database,
    seen: Seen,
    kind: Kind = None,
    min_score: Annotated[float, Query(ge=0, le=1, description="Least score.")] = 0.0,
) -> Page[Anomaly]:
    """Each with its reasons in words. Unusual, not fraudulent."""
    return list_anomalies(database, **seen, kind=kind, min_score=min_score)


@router.get("/whales", summary="Large values that likely changed hands, newest first", responses=documented())
def whales(database: Database, seen: Seen, min_moved_sat: MinMoved = 0) -> Page[WhaleMove]:
    """The sender's change is left out of `moved_sat`. `flow` follows from what is known of the addresses."""
    return list_whales(database, **seen, min_moved_sat=min_moved_sat)


@router.get("/whales/history", summary="Whales of the past, newest first", responses=documented())
def whale_history(
    database: Database,
    seen: Seen,
    flow: Annotated[FlowClass | None, Query(description="Where it went, by what labels say now.")] = None,
    entity: Annotated[
        str | None,
        Query(max_length=200, pattern=r"^[^\x00]+$", description="Who paid or was paid, as labels name them."),
    ] = None,
    min_moved_sat: MinMoved = 0,
) -> Page[RecordedWhale]:
    """Kept for good, where transactions and scores are removed after a while; what was removed is null."""
    position = None if seen["cursor"] is None else Position.decode(seen["cursor"])
    found = list_whale_moves(
        database,
        since=seen["since"],
        until=seen["until"],
        flow=flow,
        entity=entity,
        min_moved_sat=min_moved_sat,
        before=None if position is None else (position.moment, position.key),
        limit=seen["limit"] + 1,
    )
    return page_of(found, seen["limit"], lambda whale: Position(whale.seen_at, whale.txid))


@router.get("/whales/totals", summary="What whales moved, by flow and by entity", responses=documented())
def whale_totals(
    database: Database, days: Annotated[float, Query(gt=0, le=3660, description="How far back from now, in days.")] = 30
) -> WhaleTotals:
    """Moves within one entity are left out of the entities and of the largest."""
    until = utc_now()
    since = until - timedelta(days=days)
    return WhaleTotals(
        flow_totals(database, since, until), entity_totals(database, since, until), largest_whale_moves(database, since)
    )
