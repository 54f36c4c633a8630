"""A database with channels, a clock that only waiting moves, and a dispatcher between them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.builders import T0
from tests.databases import empty_tables
from txwatch.alerts.alert import Alert
from txwatch.alerts.carriers import AppriseCarrier, Carrier, WebhookCarrier
from txwatch.alerts.dispatcher import Dispatcher
from txwatch.alerts.sender import TelegramSender
from txwatch.alerts.store import AlertUpdate, insert_alerts, insert_updates
from txwatch.channels.apprise import Notifier
from txwatch.channels.channel import Kind, Target, Terms
from txwatch.channels.outcomes import Outcome
from txwatch.channels.store import add_channel
from txwatch.channels.webhook import WebhookPoster
from txwatch.detection.kinds import Severity
from txwatch.detection.reasons import Reason
from txwatch.store.database import Connection, connect

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SECRET = "a secret of thirty-two letters, or more"


def alert(
    n: int, severity: Severity = Severity.high, *, seen_at: datetime = T0, late: bool = False, kind: str = "whale"
) -> Alert:
    return Alert(f"{n:064x}", [kind], severity, [Reason(kind, f"reason {n}")], late, seen_at, seen_at, "3")


@dataclass
class Outbox:
    """`now` moves by waits alone; `then` happens in each."""

    database_url: str
    connection: Connection
    now: datetime = T0
    then: Callable[[], object] = lambda: None
    private: bool = True
    answer_seconds: float = 1800.0
    waited: list[float] = field(default_factory=list)

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)
        self.then()

    def add(self, name: str, url: str, terms: Terms | None = None, kind: Kind = "webhook") -> None:
        secrets = (SECRET,) if kind == "webhook" else ()
        add_channel(self.connection, name, kind, "shown", Target(url, secrets), terms or Terms())

    def raise_alerts(self, *alerts: Alert, chats: tuple[str, ...] = ()) -> None:
        with self.connection.transaction():
            insert_alerts(self.connection, alerts, chats)

    def tell(self, key: str, update_key: str, text: str = "news") -> None:
        with self.connection.transaction():
            insert_updates(self.connection, [AlertUpdate(key, update_key, text, self.now)])

    def drain(self, patience: timedelta = HOUR, *chats: str, telegram_url: str = "") -> Counter[str]:
        async def drained() -> Counter[str]:
            async with (
                WebhookPoster(private=self.private, clock=self.clock, answer_seconds=self.answer_seconds) as poster,
                TelegramSender("1:a", telegram_url) as sender,
            ):
                dispatcher = self.dispatcher(poster, *chats, sender=sender)
                await dispatcher.drain(patience)
                return dispatcher.delivered

        return asyncio.run(drained())

    def test(self, channel: str) -> Outcome:
        async def tested() -> Outcome:
            async with WebhookPoster(private=self.private, clock=self.clock) as poster:
                return await self.dispatcher(poster).test(channel)

        return asyncio.run(tested())

    def dispatcher(self, poster: WebhookPoster, *chats: str, sender: TelegramSender | None = None) -> Dispatcher:
        others: dict[Kind, Carrier] = {
            "webhook": WebhookCarrier(poster),
            "apprise": AppriseCarrier(Notifier(private=self.private)),
        }
        return Dispatcher(self.database_url, sender, chats, clock=self.clock, sleep=self.sleep, others=others)

    def states(self, channel: str | None = None) -> dict[str, str]:
        return dict(
            self.connection.execute(
                "SELECT alert_key, state FROM alert_deliveries WHERE channel = %(c)s OR %(c)s::text IS NULL",
                {"c": channel},
            ).fetchall()
        )


@contextmanager
def outbox(database_url: str) -> Iterator[Outbox]:
    """An empty one."""
    with connect(database_url) as connection:
        empty_tables(connection, "alerts, channels, channel_requests, transactions, blocks, confirmations")
        yield Outbox(database_url, connection)
