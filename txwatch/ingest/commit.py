"""One batch, one database transaction: rows, quarantine, gaps, late windows, heartbeat and watermark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
import structlog
from psycopg.errors import DeadlockDetected, SerializationFailure
from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from txwatch.ingest.batch import Batch
from txwatch.ingest.sealing import late_windows
from txwatch.store.database import Connection
from txwatch.store.gaps import narrow_gaps_between_workers, record_gaps
from txwatch.store.landing import land_blocks, land_what_is_sound, quarantine
from txwatch.store.late_windows import note_late_windows
from txwatch.store.lease import count_messages, lock_lease, renew_lease
from txwatch.wire.transaction import Transaction

log = structlog.get_logger(__name__)

_ATTEMPTS = 6
_FAILURES = 12
"""Enough to find one of 2,000. When all fail, the cause is not in the rows, and the landing must not wait for it."""

Landed = Callable[[Connection, Sequence[Transaction]], Callable[[], None] | None]
"""What else is to be written of transactions that are new, such as scores and alerts, in the transaction that lands
them. It runs in a savepoint: those for which it fails are landed without. It gives what is to be done once all is
committed.
"""


@dataclass(frozen=True)
class Committed:
    """What became of a batch. `superseded`: it was landed, but another worker has the lease by now."""

    new: int
    superseded: bool


def commit(
    connection: Connection,
    batch: Batch,
    *,
    epoch: int | None,
    now: datetime,
    landed: Landed | None = None,
    live: bool = True,
) -> Committed:
    """Land a batch and renew the lease of this epoch; with None, land it alone. `now` is by the database's clock.

    What is not `live` did not come by the feed: it is landed, and changes neither counts nor gaps.
    Deadlocks and serialization failures are retried. Raises psycopg.Error when the database cannot take the batch.
    """
    committed, then = _commit(connection, batch, epoch, now, landed, live)
    if then is not None:
        then()
    return committed


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.info("commit_retried", attempt=state.attempt_number, cause=str(error).splitlines()[0])


@retry(
    retry=retry_if_exception_type((DeadlockDetected, SerializationFailure)),
    # At random, so that two that met do not meet again; in all at most 1.3 s.
    wait=wait_random_exponential(multiplier=0.04),
    stop=stop_after_attempt(_ATTEMPTS),
    before_sleep=_log_retry,
    reraise=True,
)
def _commit(
    connection: Connection, batch: Batch, epoch: int | None, now: datetime, landed: Landed | None, live: bool
) -> tuple[Committed, Callable[[], None] | None]:
    with connection.transaction():
        txids, refused = land_what_is_sound(connection, batch.transactions)
        land_blocks(connection, batch.blocks, batch.seen_through)
        quarantine(connection, [*batch.malformed, *refused])
        record_gaps(connection, batch.gaps)
        new = _those(batch.transactions, txids)
        then = _tell(landed, connection, new) if landed is not None and new else None
        lease = lock_lease(connection)
        note_late_windows(connection, late_windows(new, lease, now), "landed late")
        if not live:
            return Committed(len(new), superseded=False), then
        # A batch whose commit was not answered is landed again: it must not count twice.
        if lease is None or lease.committed_through != batch.seen_through:
            count_messages(
                connection,
                received=batch.received,
                duplicates=batch.duplicates + len(batch.transactions) - len(txids) - len(refused),
                ignored=batch.ignored,
            )
        superseded = lease is not None and epoch != lease.epoch
        if superseded:
            # The new holder subscribed before it took the lease, but this batch may hold what came before that.
            narrow_gaps_between_workers(connection, batch.seen_from, batch.seen_through)
        elif epoch is not None:
            renew_lease(connection, epoch, now, batch.seen_through)
    return Committed(len(new), superseded), then


def _those(transactions: Sequence[Transaction], txids: Sequence[str]) -> Sequence[Transaction]:
    if len(txids) == len(transactions):
        return transactions
    wanted = set(txids)
    return [tx for tx in transactions if tx.txid in wanted]


def _tell(landed: Landed, connection: Connection, new: Sequence[Transaction]) -> Callable[[], None] | None:
    """Tell `landed` of them, in halves where it fails, until what makes it fail stands alone: the others are scored."""
    parts, then = [new], list[Callable[[], None]]()
    failures, untold, cause = 0, 0, None
    while parts:
        part = parts.pop()
        try:
            with connection.transaction():
                told = landed(connection, part)
        except psycopg.OperationalError:
            raise  # the connection is at fault, and the whole batch is tried again
        except Exception as error:
            failures, cause = failures + 1, error
            if len(part) == 1 or failures > _FAILURES:
                untold += len(part)
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        else:
            if told is not None:
                then.append(told)
    if untold:
        log.error("landed_without_scores", transactions=untold, exc_info=cause)

    def tell() -> None:
        for call in then:
            call()

    return tell if then else None
