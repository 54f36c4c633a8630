"""Slack, Discord, Matrix, e-mail, PagerDuty, Teams and the rest, by the library apprise.

The library is synchronous, so each request has a thread, of which a channel has one at a time. It says whether a
service took the message, and no more; a message that it did not take is tried again. Its log may hold what is secret in
a URL, and goes nowhere. It is imported where it is used: it takes a second, and most installations do not use it.
"""

import asyncio
import logging
import re
from typing import Any

from txwatch.channels.addresses import PRIVATE, public_alone
from txwatch.channels.channel import MAX_URL, Target, WrongChannelError, scheme_of
from txwatch.channels.outcomes import ChannelRefused, NotSent, Outcome, Sent, Unknown
from txwatch.waiting import in_daemon

SECONDS = 30.0
"""For a whole request. One that goes on is left to its thread."""
READ_SECONDS = 15.0
"""For an answer, at least. apprise waits for 4, and calls a message that was taken later one that was not."""
_STATUS = re.compile(r"error=(\d{3})\b")


def service_shown_as(url: str) -> str:
    """The service and scheme of a URL. Raises WrongChannelError if apprise cannot read it."""
    service = _service(url) if len(url) <= MAX_URL else None
    if service is None:
        known = "https://appriseit.com/services/ says how the URL of each service is written"
        raise WrongChannelError(f"apprise cannot read the URL {scheme_of(url)}://…: {known}")
    return f"{service.service_name} ({scheme_of(url)}://…)"


def is_own_url_of_a_service(url: str) -> bool:
    """Whether an HTTP URL is one that a service gives out itself, such as that of a Slack webhook."""
    return _service(url) is not None


class Notifier:
    """Sends messages by apprise. `private` allows hosts whose addresses are not public."""

    def __init__(self, *, private: bool, seconds: float = SECONDS) -> None:
        self._private, self._seconds = private, seconds
        self._running = set[str]()

    async def notify(self, channel: str, target: Target, title: str, body: str) -> Outcome:
        """Send one message, as plain text. Raises nothing."""
        if channel in self._running:
            return NotSent("the request before has not ended yet")

        def work() -> Outcome:
            try:
                if self._private:
                    return _notify(target.url, title, body)
                with public_alone() as refused:
                    outcome = _notify(target.url, title, body)
                return ChannelRefused(PRIVATE) if refused and not isinstance(outcome, Sent) else outcome
            finally:
                self._running.discard(channel)

        self._running.add(channel)
        try:
            ended = in_daemon(work)
        except RuntimeError:  # the machine gives no more threads: nobody else would take the channel out again
            self._running.discard(channel)
            return NotSent("no thread could be started")
        try:
            async with asyncio.timeout(self._seconds):
                return await ended
        except TimeoutError:
            return Unknown(f"no end after {self._seconds:.0f} s")


def _notify(url: str, title: str, body: str) -> Outcome:
    try:
        import apprise

        service = _service(url)
        if service is None:
            return ChannelRefused("apprise cannot read its URL")
        one = apprise.Apprise(asset=service.asset)
        one.add(service)
        result = one.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT)
        if result:
            return Sent()
        statuses = _STATUS.findall(" ".join(entry.message for entry in result.logs()))
        said = f" (status {statuses[-1]})" if statuses else ""
        return NotSent(f"{service.service_name} did not take the message{said}")
    except Exception as error:  # of any of more than a hundred services: the text may hold the URL
        return NotSent(f"apprise failed: {type(error).__name__}")


def _service(url: str) -> Any:
    """The service of a URL, None if apprise cannot read it. Redirects are not followed."""
    import apprise

    log = logging.getLogger(apprise.logger.name)
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    # No time-out of its own and nothing asynchronous: it runs in our thread, not in a pool that others may fill.
    asset = apprise.AppriseAsset(
        app_id="txwatch",
        app_desc="txwatch",
        async_mode=False,
        service_timeout=0,
        secure_logging=True,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
        http_redirects=False,
        pgp_autogen=False,
        pem_autogen=False,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is not None:
        service.socket_read_timeout = max(service.socket_read_timeout, READ_SECONDS)
    return service
