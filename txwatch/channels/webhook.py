"""Signed webhooks: POST one event, and say what became of it.

The signature is HMAC-SHA256 (RFC 2104) over the second at which it was made, a full stop and the body, so that neither
can be changed and an old request is known to be old. While a secret is replaced there is one for each that is valid.
"""

import asyncio
import hashlib
import hmac
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Self

import httpx

from txwatch.channels.addresses import PrivateAddressError, resolve
from txwatch.channels.channel import Target
from txwatch.channels.outcomes import ChannelRefused, Gone, NotSent, Outcome, Refused, Sent, Unanswered
from txwatch.clock import Clock, utc_now
from txwatch.foreign import one_line

SIGNATURE = "X-Txwatch-Signature"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
LONGEST_PAUSE = timedelta(hours=1)
"""That a receiver may ask for: a nonsensical one must not silence it for good."""
OF_THE_EVENT = (400, 413, 422)
"""Statuses of a body that is not taken; another one may be."""
TO_BE_REPEATED = (408, 425, 429)
"""Statuses below 500 of a receiver that takes the same later."""


@dataclass(frozen=True)
class Event:
    """What is posted: the name of the event, the key by which a receiver knows a repetition, and the JSON."""

    name: str
    key: str
    body: bytes


def signature(secrets: Sequence[str], body: bytes, at: datetime) -> str:
    """The header: `t=` Unix seconds, and `v1=` 64 hexadecimal digits for each secret."""
    seconds = int(at.timestamp())
    signed = f"{seconds}.".encode() + body
    digests = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={seconds}", *(f"v1={digest}" for digest in digests)])


class WebhookPoster:
    """Posts events. An async context, which closes its connections. `private` allows addresses that are not public."""

    def __init__(self, *, private: bool, clock: Clock = utc_now, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._private, self._clock, self._answer_seconds = private, clock, answer_seconds
        self._agent = f"txwatch/{version('txwatch')}"
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def post(self, target: Target, event: Event) -> Outcome:
        """Post one event to the addresses of a target in turn, until one of them is reached. Raises nothing."""
        try:
            url = httpx.URL(target.url)
            port = url.port or (443 if url.scheme == "https" else 80)
            async with asyncio.timeout(CONNECT_SECONDS):
                addresses = await resolve(url.raw_host.decode(), port, private=self._private)
        except PrivateAddressError as error:
            return ChannelRefused(str(error))
        except httpx.InvalidURL:
            return ChannelRefused("its URL cannot be used")
        except (OSError, UnicodeError) as error:  # TimeoutError and no such name are one
            return NotSent(f"its name cannot be resolved: {type(error).__name__}")
        unreached = NotSent("its name has no address")
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS + 2 * self._answer_seconds):
                    return await self._post_to(address, url, target.secrets, event)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                # Everybody may read why an event waits, but not where it goes: a wrong certificate names the host.
                said = f"{type(error).__name__}: {error}".replace(url.raw_host.decode(), "its host")
                unreached = NotSent(one_line(said))
            except (httpx.HTTPError, OSError) as error:  # TimeoutError is one
                return Unanswered(f"no answer came: {type(error).__name__}")
        return unreached

    async def _post_to(self, address: str, url: httpx.URL, secrets: Sequence[str], event: Event) -> Outcome:
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",
            "Idempotency-Key": event.key,
            "X-Txwatch-Event": event.name,
            SIGNATURE: signature(secrets, event.body, self._clock()),
        }
        # The certificate must be that of the name, though the connection goes to the address that was judged.
        request = httpx.Request(
            "POST",
            url.copy_with(host=address),
            headers=headers,
            content=event.body,
            extensions={"sni_hostname": url.raw_host.decode(), "timeout": self._timeout.as_dict()},
        )
        response = await self._opened().send(request, stream=True)
        try:
            # Its body is not read: the status says all, and a body may be endless, or cut.
            return outcome(response.status_code, response.headers.get("Retry-After"), self._clock())
        finally:
            await response.aclose()

    @property
    def _timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self._answer_seconds, connect=CONNECT_SECONDS)

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            # No connection is kept: one that the receiver has closed meanwhile would leave an event unanswered.
            # No proxy of the environment: it would resolve the name itself.
            self._client = httpx.AsyncClient(
                verify=httpx.create_ssl_context(),
                limits=httpx.Limits(max_keepalive_connections=0),
                trust_env=False,
                follow_redirects=False,
            )
        return self._client


def outcome(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """What an answer's status means."""
    said = f"it answered {status}"
    if 200 <= status < 300:
        return Sent()
    if status == 410:
        return Gone(f"{said} (gone)")
    if status >= 500 or status in TO_BE_REPEATED:
        return NotSent(said, pause(retry_after, now))
    if status in OF_THE_EVENT:
        return Refused(said)
    return ChannelRefused(f"{said}: redirects are not followed" if 300 <= status < 400 else said)


def pause(retry_after: str | None, now: datetime) -> timedelta | None:
    """How long a receiver asks to wait, in seconds or until a date (RFC 9110, 10.2.3), within LONGEST_PAUSE."""
    asked: timedelta | None = None
    if retry_after is not None and (seconds := retry_after.strip()).isdecimal():
        asked = timedelta(seconds=min(float(seconds[:20]), LONGEST_PAUSE.total_seconds()))
    elif retry_after is not None:
        with suppress(ValueError, OverflowError):
            until = parsedate_to_datetime(retry_after)
            asked = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    if asked is None or math.isnan(asked.total_seconds()):
        return None
    return max(timedelta(0), min(asked, LONGEST_PAUSE))
