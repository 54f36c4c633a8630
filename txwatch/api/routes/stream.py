"""The live stream, as server-sent events for pages and as a WebSocket for programs."""

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from difflib import get_close_matches
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.status import WS_1013_TRY_AGAIN_LATER
from starlette.websockets import WebSocketDisconnect

from txwatch.api.access import SeesChannels, may_go_on
from txwatch.api.broadcast import MAX_CLIENTS, UNKNOWN, Choice, Stream, Told
from txwatch.api.numbering import Event
from txwatch.api.problems import ProblemError, documented
from txwatch.api.routes.parameters import KIND
from txwatch.detection.kinds import KINDS, RULE_PREFIX, Severity
from txwatch.queries.paging import BadCursorError, Position
from txwatch.waiting import wait_for_first
from txwatch.wire.messages import SAT_PER_BTC


def _known(kind: str) -> str:
    """A kind. Raises ValueError for one that no alert can have: its client would wait in vain."""
    if kind in KINDS or kind.startswith(RULE_PREFIX):
        return kind
    near = get_close_matches(kind, KINDS, 1)
    raise ValueError(f"there is no kind {kind!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


_Kind = Annotated[str, Field(pattern=KIND), AfterValidator(_known)]


class Subscription(BaseModel):
    """Which events a client wants, and from where on."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[int | None, Field(ge=0, le=UNKNOWN, description="Go on after the event with this number.")] = None
    kind: Annotated[
        list[_Kind],
        Field(
            max_length=50, description="Only of these kinds; those of a rule are `rule:<name>`.", examples=[["whale"]]
        ),
    ] = []
    severity: Annotated[
        Literal["low", "medium", "high", "critical"], Field(description="Only of this severity, and what is severer.")
    ] = "low"
    min_btc: Annotated[
        float, Field(ge=0, le=21_000_000, description="Only of transactions of so much; others have no amount.")
    ] = 0
    min_usd: Annotated[
        float, Field(ge=0, le=1e15, description="The same in USD; without a price there is no amount either.")
    ] = 0

    def choice(self, *, private: bool) -> Choice:
        """Whether the client wants an event and may be told it; what is `private` only by a key."""
        return lambda event: (private or not event.private) and self._wants(event)

    def _wants(self, event: Event) -> bool:
        return (
            (not self.kind or not event.kinds.isdisjoint(self.kind))
            and event.severity >= Severity[self.severity]
            and (self.min_btc == 0 or (event.value_sat or 0) >= round(self.min_btc * SAT_PER_BTC))
            and (self.min_usd == 0 or (event.value_usd or 0) >= self.min_usd)
        )


async def _source(connection: HTTPConnection) -> AsyncIterator[Stream]:
    # Before the answer begins: in the middle of a stream there is no way to answer with an error. The place is taken
    # at once, for many may ask before the first of them is told anything.
    source: Stream = connection.app.state.stream
    if source.clients >= MAX_CLIENTS:
        raise ProblemError(503, f"{MAX_CLIENTS} clients listen already", headers={"Retry-After": "30"})
    with source.place():
        yield source


def _last(
    last_event_id: Annotated[
        str | None, Header(max_length=400, description="`id` of the last event that was received; before `after`.")
    ] = None,
) -> int | None:
    if last_event_id is None:
        return None
    if last_event_id.isascii() and last_event_id.isdecimal():
        return min(int(last_event_id), UNKNOWN)
    try:
        # Of a server that had no numbers yet: what was missed since nobody knows.
        Position.decode(last_event_id)
    except BadCursorError:
        raise ProblemError(400, "Last-Event-ID is none that the stream gave: it gives numbers") from None
    return UNKNOWN


Source = Annotated[Stream, Depends(_source)]
Wanted = Annotated[Subscription, Query()]
router = APIRouter(tags=["stream"])


@router.get(
    "/v1/stream",
    summary="Alerts and traffic as they happen",
    response_class=EventSourceResponse,
    responses=documented(),
)
async def stream(
    request: Request,
    source: Source,
    private: SeesChannels,
    wanted: Wanted,
    last: Annotated[int | None, Depends(_last)],
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `alert`, `update`, `traffic` and `position`.

    `alert` comes for each alert when it is raised, `update` for what becomes known of one, `traffic` up to twice a
    second, and `position` every 15 s.

    A client that was away sends the `id` of its last event as `Last-Event-ID` (a browser's EventSource does), and gets
    what was raised meanwhile first. `begin` says by `complete` whether that is all. A client that is too slow is told
    `slow`, and cut. The same as a WebSocket is at `/v1/stream/ws`.
    """
    choice = wanted.choice(private=private)
    async with aclosing(source.follow(wanted.after if last is None else last, choice)) as following:
        async for told in following:
            yield ServerSentEvent(raw_data=told.text, event=told.type, id=_id(told))
            if told.type == "position" and not await may_go_on(request):
                return


def _id(told: Told) -> str | None:
    return None if told.after is None else str(told.after)


@router.websocket("/v1/stream/ws")
async def stream_for_programs(websocket: WebSocket, source: Source, private: SeesChannels, wanted: Wanted) -> None:
    """The same without `traffic`, a message of JSON for each event."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        await wait_for_first(_tell(websocket, source, wanted.after, wanted.choice(private=private)), _leave(websocket))


async def _tell(websocket: WebSocket, source: Stream, after: int | None, choice: Choice) -> None:
    reason = "the stream ended: come back after the last number"
    async with aclosing(source.follow(after, choice)) as following:
        async for told in following:
            if told.type == "slow":
                reason = "too slow: come back after the last number, or ask for less"
            if told.type != "traffic":
                await websocket.send_text(told.text)
            if told.type == "position" and not await may_go_on(websocket):
                break
    await websocket.close(WS_1013_TRY_AGAIN_LATER, reason)


async def _leave(websocket: WebSocket) -> None:
    """Take what the client says, which is nothing to us, until it leaves."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
