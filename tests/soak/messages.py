"""Alerts against the messages that Telegram took, by the server's own record of them. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from txwatch.alerts.alert import SYSTEM_PREFIX
from txwatch.alerts.messages import EXPLORER, MAX_DIGEST_LINES

_IN_ONE_MESSAGE = re.compile(r"^🗂 ([\d,]+) alerts? in one message")
_MAY_NOT_HAVE_ARRIVED = re.compile(r"^⚠️ ([\d,]+) alerts? may not have reached you", re.MULTILINE)


class Delivery(NamedTuple):
    """A row of `alert_deliveries`."""

    alert_key: str
    state: str
    message_id: int | None
    request_id: int | None
    listed_in: int | None
    reason: str | None


class Message(NamedTuple):
    """A message as Telegram took it first."""

    message_id: int
    text: str
    links: tuple[str, ...]

    @property
    def txids(self) -> list[str]:
        """The transactions that it links, in its order."""
        return [link.removeprefix(EXPLORER) for link in self.links if link.startswith(EXPLORER)]

    @property
    def told(self) -> int:
        """How many alerts it tells of in one; 0 if it is no digest."""
        match = _IN_ONE_MESSAGE.match(self.text)
        return int(match[1].replace(",", "")) if match else 0

    @property
    def is_digest(self) -> bool:
        return self.told > 0 or _MAY_NOT_HAVE_ARRIVED.match(self.text) is not None

    def names(self, alert_key: str) -> bool:
        """Whether it is about this alert, or may be: of a digest's alerts the first ones only are named."""
        if alert_key.startswith(SYSTEM_PREFIX):
            return alert_key in self.text or not (self.is_digest or self.txids)
        return alert_key in self.txids or self.told > MAX_DIGEST_LINES


@dataclass
class Post:
    """How the alerts were delivered. `faults` must be empty."""

    alerts: int = 0
    messages: int = 0
    sent_alone: int = 0
    digested: int = 0
    digests: int = 0
    uncertain: list[str] = field(default_factory=list)
    uncertain_and_arrived: int = 0
    uncertain_requests: int = 0
    uncertain_by_reason: dict[str, int] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, name: str, what: object) -> None:
        """Note something that must not be."""
        self.faults.setdefault(name, []).append(str(what))


def account_for_post(alert_keys: Sequence[str], deliveries: Sequence[Delivery], messages: Sequence[Message]) -> Post:
    """Account for every alert and every message of a chat."""
    by_id = {message.message_id: message for message in messages}
    states = Counter(delivery.state for delivery in deliveries)
    uncertain = {delivery.alert_key: delivery for delivery in deliveries if delivery.state == "uncertain"}
    post = Post(
        alerts=len(alert_keys),
        messages=len(messages),
        sent_alone=states["sent"],
        digested=states["digested"],
        digests=sum(message.told > 0 for message in messages),
        uncertain=sorted(uncertain),
        uncertain_requests=len({delivery.request_id for delivery in uncertain.values()}),
        uncertain_by_reason=dict(Counter(str(delivery.reason) for delivery in uncertain.values())),
        dead={delivery.alert_key: str(delivery.reason) for delivery in deliveries if delivery.state == "dead"},
    )
    for key in set(alert_keys) ^ {delivery.alert_key for delivery in deliveries}:
        post.fault("alert without delivery, or delivery without alert", key)
    for delivery in deliveries:
        if delivery.state not in {"sent", "digested", "uncertain"}:
            post.fault(f"left {delivery.state}", (delivery.alert_key, delivery.reason))
        if delivery.state == "uncertain" and delivery.listed_in is None:
            post.fault("uncertain, and no digest named it", delivery.alert_key)
    told = _told_of(deliveries)
    _check_told(post, told, by_id)
    _check_untold(post, [message for message in messages if message.message_id not in told], uncertain)
    return post


def _told_of(deliveries: Sequence[Delivery]) -> Mapping[int, list[Delivery]]:
    """The deliveries that say that they went out, by message."""
    told: dict[int, list[Delivery]] = {}
    for delivery in deliveries:
        if delivery.state in {"sent", "digested"}:
            told.setdefault(delivery.message_id or 0, []).append(delivery)
    return told


def _check_told(post: Post, told: Mapping[int, list[Delivery]], by_id: Mapping[int, Message]) -> None:
    for number, deliveries in told.items():
        message = by_id.get(number)
        keys = [delivery.alert_key for delivery in deliveries]
        alone = [delivery.alert_key for delivery in deliveries if delivery.state == "sent"]
        if message is None:
            post.fault("said to be sent in a message that Telegram never took", (number, keys))
        elif alone and (len(keys) != 1 or message.is_digest):
            post.fault("sent alone in a message that is not about it alone", (number, keys))
        elif not alone and message.told != len(keys):
            post.fault("a digest of another number of alerts", (number, message.told, len(keys)))
        elif unnamed := [key for key in keys if not message.names(key)]:
            post.fault("not named in its message", (number, unnamed))


def _check_untold(post: Post, messages: Sequence[Message], uncertain: Mapping[str, Delivery]) -> None:
    """A message that no delivery knows of is the one that an uncertain delivery did not learn of, and of no other."""
    arrived: set[str] = set()
    for message in messages:
        if message.is_digest and message.told == 0:
            # It tells only of what is uncertain, and that is no delivery of it.
            continue
        requests = Counter(
            delivery.request_id for key, delivery in uncertain.items() if key not in arrived and message.names(key)
        )
        of_this = [request for request, count in requests.items() if count == (message.told or 1)]
        if not of_this:
            post.fault("a message too many", (message.message_id, message.text[:80], message.txids[:3]))
            continue
        keys = {key for key, delivery in uncertain.items() if delivery.request_id == of_this[0]}
        arrived |= keys
    post.uncertain_and_arrived = len(arrived)
