"""Transactions, and everything that is known of one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from txwatch.api.problems import documented, found
from txwatch.api.routes.parameters import Database, LongTurn, Seen, Txid
from txwatch.archive.look_up import Sought
from txwatch.detection.alike import Neighbourhood
from txwatch.detection.explain import Waterfall
from txwatch.features.feast import ServedFeatures
from txwatch.queries.history import ArchivedPage, History
from txwatch.queries.paging import Page
from txwatch.queries.transactions import (
    TransactionDetail,
    TransactionSummary,
    list_transactions,
    read_transaction_detail,
)
from txwatch.wire.addresses import LONGEST_ADDRESS
from txwatch.wire.messages import MAX_SUPPLY_SAT

router = APIRouter(prefix="/v1/transactions", tags=["transactions"])


@router.get("", summary="Transactions, newest first", responses=documented())
def transactions(
    database: Database,
    seen: Seen,
    min_value_sat: Annotated[int, Query(ge=0, le=MAX_SUPPLY_SAT, description="Least total output, in satoshi.")] = 0,
    source: Annotated[Literal["feed", "bulk", "block"] | None, Query(description="How it came.")] = None,
) -> Page[TransactionSummary]:
    """A page of transactions as they were landed. Amounts are in satoshi, the fee is null where an input is unknown."""
    return list_transactions(database, **seen, min_value_sat=min_value_sat, source=source)


@router.get("/archived", summary="Transactions that only the archive has", responses=documented())
def archived_transactions(
    request: Request,
    database: Database,
    seen: Seen,
    min_value_sat: Annotated[int, Query(ge=0, le=MAX_SUPPLY_SAT, description="Least total output, in satoshi.")] = 0,
    max_value_sat: Annotated[int, Query(ge=0, le=MAX_SUPPLY_SAT, description="Most of it.")] = MAX_SUPPLY_SAT,
    address: Annotated[
        str | None, Query(min_length=1, max_length=LONGEST_ADDRESS, description="It spends from it or pays to it.")
    ] = None,
) -> ArchivedPage:
    """A page of what the database has given up to the archive, newest first. `missing` names days not read."""
    history: History = request.app.state.history
    sought = Sought(None, address, min_value_sat, max_value_sat, seen["since"], seen["until"])
    return history.page(database, sought, seen["limit"], seen["cursor"])


@router.get("/{txid}", summary="One transaction, explained", responses=documented(404))
def transaction(request: Request, database: Database, txid: Txid) -> TransactionDetail:
    """Its coins, its features with their place in recent traffic, its scores by model version, and its alert.

    One that the database has given up is read from the archive; `archived` is its day there.
    """
    detail = read_transaction_detail(database, txid)
    missing: list[str] = []
    if detail is None:
        history: History = request.app.state.history
        detail, missing = history.transaction(database, txid)
    return found(detail, "; ".join(["no transaction with this txid was landed", *missing]))


@router.get(
    "/{txid}/features", summary="Its features as models see them", dependencies=[LongTurn], responses=documented(404)
)
def transaction_features(request: Request, database: Database, txid: Txid) -> ServedFeatures:
    """From the online store, with the network that they are relative to. They are there once its window is computed."""
    served: ServedFeatures | None = request.app.state.online_features.of(database, txid)
    return found(served, "no transaction with this txid has features yet")


@router.get(
    "/{txid}/waterfall", summary="How its score comes about", dependencies=[LongTurn], responses=documented(404)
)
def transaction_waterfall(request: Request, txid: Txid) -> Waterfall:
    """The champion's score of it, and how far each feature, put back to ordinary, lowers that."""
    waterfall: Waterfall | None = request.app.state.scorer.waterfall(txid)
    return found(waterfall, "no transaction with this txid was landed")


@router.get("/{txid}/neighbours", summary="What is most like it", dependencies=[LongTurn], responses=documented(404))
def transaction_neighbours(request: Request, txid: Txid) -> Neighbourhood:
    """The transactions before it that the champion sees as nearest, and in what they differ most."""
    neighbourhood: Neighbourhood | None = request.app.state.scorer.neighbours(txid)
    return found(neighbourhood, "no transaction with this txid was landed")
