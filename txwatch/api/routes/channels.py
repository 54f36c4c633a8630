"""Channels: where alerts go, Telegram's chats among them. No answer holds a URL or a secret.

What is posted to a webhook is described here too, as the schema of its events.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from txwatch.alerts.events import AlertEvent
from txwatch.api.access import KeyFirst, Manager, MayManage
from txwatch.api.problems import ProblemError, documented
from txwatch.api.routes.parameters import Database, LongTurn
from txwatch.channels.channel import LEAST_SECRET, MAX_URL, MOST_SECRET, Channel, WrongChannelError, is_webhook, terms
from txwatch.channels.outcomes import Sent
from txwatch.channels.store import NoSuchChannelError, add_by_url, list_channels, read_one, set_enabled
from txwatch.clock import utc_now
from txwatch.people.changes import record_change
from txwatch.queries.alerts import ChannelDelivery, channel_deliveries

MOST_DELIVERIES = 20
router = APIRouter(prefix="/v1/channels", tags=["channels"], dependencies=[MayManage], route_class=KeyFirst)
webhooks = APIRouter()
Name = Annotated[
    str, Path(pattern=r"^[!-.0-~]{1,100}$", description="A channel's name, or a chat's id.", examples=["siem"])
]


class NewChannel(BaseModel):
    """A channel that somebody wants. What is left out stands for everything, at once."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern="^[a-z][a-z0-9_-]{0,39}$", examples=["siem"])
    url: str = Field(
        pattern=r"^[!-~]+$",
        max_length=MAX_URL,
        description="https://... of a webhook, or a URL of apprise. It is never given back.",
        examples=["https://example.org/hooks/txwatch"],
    )
    secret: str | None = Field(
        None,
        pattern=r"^[ -~]*$",
        min_length=LEAST_SECRET,
        max_length=MOST_SECRET,
        description="That signs what goes to a webhook, which must have one. It is never given back.",
    )
    min_severity: Literal["low", "medium", "high", "critical"] | None = None
    kinds: list[Annotated[str, Field(pattern=r"^[!-~]{1,90}$")]] = Field([], max_length=50, examples=[["whale"]])
    rules: list[Annotated[str, Field(pattern=r"^[!-~]{1,80}$")]] = Field([], max_length=50)
    quiet_hours: str | None = Field(None, pattern=r"^[ -~]*$", max_length=80, examples=["22:00-07:00 Europe/Berlin"])
    digest_minutes: int | None = Field(None, ge=5, le=1440, description="All but critical alerts, so far apart.")


class Tried(BaseModel):
    """What became of a test message. `reason` says why it did not arrive."""

    arrived: bool
    reason: str | None


@router.get("", summary="All channels", responses=documented(401))
def channels(database: Database) -> list[Channel]:
    """How each stands, and which alerts it gets. Spans of time are those of ISO 8601. Who gets alerts is private."""
    return list_channels(database)


@router.get("/{name}", summary="One channel", responses=documented(401, 404))
def channel(database: Database, name: Name) -> Channel:
    """How it stands, and which alerts it gets."""
    with _refusing():
        return read_one(database, name)


@router.get("/{name}/deliveries", summary="The newest deliveries of a channel", responses=documented(401, 404))
def deliveries(database: Database, name: Name) -> list[ChannelDelivery]:
    """Of twenty alerts at most, the newest first: how each stands with this channel, and why it was not sent."""
    with _refusing():
        return channel_deliveries(database, read_one(database, name).channel, MOST_DELIVERIES)


@router.post("", summary="Add a channel", status_code=201, responses=documented(401, 413))
def add(database: Database, caller: Manager, wanted: NewChannel) -> Channel:
    """It gets the alerts that are raised from now on."""
    if wanted.secret is None and is_webhook(wanted.url):
        raise ProblemError(422, "a webhook needs a secret: send one, for none is ever given back")
    digest_every = None if wanted.digest_minutes is None else timedelta(minutes=wanted.digest_minutes)
    with _refusing(), database.transaction():
        agreed = terms(wanted.min_severity, wanted.kinds, wanted.rules, wanted.quiet_hours, digest_every)
        add_by_url(database, wanted.name, wanted.url, agreed, wanted.secret)
        record_change(database, caller.who, "channels", wanted.name, "add", utc_now())
        return read_one(database, wanted.name)


@router.post("/{name}/test", summary="Send a test message", dependencies=[LongTurn], responses=documented(401, 404))
def try_out(request: Request, name: Name) -> Tried:
    """One that says only that messages arrive. It may take half a minute."""
    # Telegram's library takes long to import.
    from txwatch.alerts.dispatcher import Chats

    settings = request.app.state.settings

    async def tried() -> Tried:
        async with Chats.of(settings).dispatcher(settings.require_database_url()) as dispatcher:
            outcome = await dispatcher.test(name)
        arrived = isinstance(outcome, Sent)
        return Tried(arrived=arrived, reason=None if isinstance(outcome, Sent) else outcome.reason)

    with _refusing():
        return asyncio.run(tried())


@router.post("/{name}/enable", summary="Enable a channel", responses=documented(401, 404))
def enable(database: Database, caller: Manager, name: Name) -> Channel:
    """It gets alerts again, also those that waited."""
    return _switch(database, caller, name, enabled=True)


@router.post("/{name}/disable", summary="Disable a channel", responses=documented(401, 404))
def disable(database: Database, caller: Manager, name: Name) -> Channel:
    """What waits for it goes on waiting."""
    return _switch(database, caller, name, enabled=False)


def _switch(database: Database, caller: Manager, name: str, *, enabled: bool) -> Channel:
    with _refusing(), database.transaction():
        set_enabled(database, name, utc_now(), enabled=enabled)
        record_change(database, caller.who, "channels", name, "enable" if enabled else "disable", utc_now())
        return read_one(database, name)


@contextmanager
def _refusing() -> Iterator[None]:
    """What cannot be, as a problem."""
    try:
        yield
    except NoSuchChannelError as error:
        raise ProblemError(404, str(error)) from None
    except WrongChannelError as error:
        raise ProblemError(422, str(error)) from None


_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Or any other below 300: it is taken, and does not come again."},
    410: {"description": "The receiver has ended: the channel is disabled."},
    422: {"description": "Or 400 or 413: it is never taken, and does not come again."},
    429: {"description": "Or 500 and above, or no answer: it comes again, after `Retry-After` if that is given."},
}


@webhooks.post("alert", summary="An alert, or what became of it", responses=_ANSWERS)
def alert(
    event: AlertEvent,
    signature: Annotated[
        str,
        Header(
            alias="X-Txwatch-Signature",
            description="`t=` Unix seconds, and for each secret `v1=` HMAC-SHA256(secret, t + `.` + body) in hex.",
        ),
    ],
    key: Annotated[
        str, Header(alias="Idempotency-Key", description="The alert's key and its revision; the same in a repetition.")
    ],
    name: Annotated[str, Header(alias="X-Txwatch-Event", description="That of the body.")],
) -> None:
    """Posted to each webhook. Redirects are not followed."""
