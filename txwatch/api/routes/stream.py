"""The live stream."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from txwatch.api.problems import ProblemError, documented
from txwatch.api.stream import MAX_CLIENTS, Stream
from txwatch.queries.paging import Position

router = APIRouter(tags=["stream"])


def _position(
    request: Request,
    last_event_id: Annotated[
        str | None, Header(max_length=400, description="`id` of the last alert that was received.")
    ] = None,
) -> str | None:
    # Before the answer begins: an error in the middle of a stream could not be told any more.
    if request.app.state.stream.clients >= MAX_CLIENTS:
        raise ProblemError(503, f"{MAX_CLIENTS} clients listen already", headers={"Retry-After": "30"})
    if last_event_id is not None:
        Position.decode(last_event_id)
    return last_event_id


@router.get(
    "/v1/stream",
    summary="Alerts and traffic as they happen",
    response_class=EventSourceResponse,
    responses=documented(),
)
async def stream(
    request: Request, last_id: Annotated[str | None, Depends(_position)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `alert` for each alert when it is raised, `traffic` up to twice a second.

    A client that was away sends the `id` of its last alert as `Last-Event-ID` (a browser's EventSource does), and gets
    what was raised meanwhile first.
    """
    source: Stream = request.app.state.stream
    async for event in source.subscribe(last_id):
        yield ServerSentEvent(data=event.data, event=event.kind, id=event.id)
