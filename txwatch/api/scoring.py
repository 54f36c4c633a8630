"""Scoring what clients post: all that waits is scored at once, because a forest takes hardly longer for many."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import numpy as np
from psycopg_pool import ConnectionPool

from txwatch.api.problems import ProblemError
from txwatch.clock import Clock, utc_now
from txwatch.detection.detectors import CurrentDetectors
from txwatch.detection.model import ContractMismatchError, Model
from txwatch.detection.recent_scores import read_recent_scores
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.score import Score, score
from txwatch.detection.waterfall import Waterfall, waterfall
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network_store import read_network_contexts
from txwatch.queries.transactions import read_own_features
from txwatch.store.database import Connection
from txwatch.store.reading import read_transaction
from txwatch.windows import context_window, window_start
from txwatch.wire.transaction import Transaction

MAX_AT_ONCE = 2_000
"""Transactions in one call of the forest: more would make the requests behind them wait for little gain."""
REFRESH_SECONDS = 5.0
"""How soon a champion that was promoted elsewhere scores here."""


@dataclass(frozen=True)
class Scored:
    """The scores of a request's transactions, in their order, by which model and in which context."""

    scores: Sequence[Score]
    model_version: str
    context_version: int


class Models:
    """The champion, loaded once and looked up again every REFRESH_SECONDS; and other versions on demand."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._lock = Lock()
        self._champion: Model | None = None
        self._looked = -REFRESH_SECONDS

    def champion(self) -> Model:
        """The model that scores. Raises ProblemError before there is one that fits."""
        with self._lock:
            if time.monotonic() - self._looked >= REFRESH_SECONDS:
                version = self.registry.champion_version()
                if version is not None and (self._champion is None or self._champion.version != version):
                    self._champion = self._load(version)
                self._looked = time.monotonic()
            if self._champion is None:
                raise ProblemError(503, "there is no champion yet: the first model is trained after 5,000 transactions")
            return self._champion

    def forget(self) -> None:
        """Look the champion up at the next call."""
        with self._lock:
            self._looked = -REFRESH_SECONDS

    def _load(self, version: str) -> Model:
        try:
            return self.registry.load(version)
        except ContractMismatchError as error:
            raise ProblemError(503, str(error)) from error


class Scorer:
    """Takes transactions from many requests and scores those that wait together, one batch after the other."""

    def __init__(
        self, pool: ConnectionPool[Connection], models: Models, *, whale_btc: float, clock: Clock = utc_now
    ) -> None:
        self._pool, self.models, self._clock = pool, models, clock
        self._whale_btc = whale_btc
        self._waiting: deque[tuple[Sequence[Transaction], asyncio.Future[Scored]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def score(self, transactions: Sequence[Transaction]) -> Scored:
        """The scores of these, as if they were seen now."""
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._waiting.append((transactions, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            count = len(batch[0][0])
            while self._waiting and count + len(self._waiting[0][0]) <= MAX_AT_ONCE:
                batch.append(self._waiting.popleft())
                count += len(batch[-1][0])
            together = [tx for transactions, _ in batch for tx in transactions]
            try:
                scored = await asyncio.to_thread(self._score, together, self._clock())
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            start = 0
            for transactions, future in batch:
                own = scored.scores[start : start + len(transactions)]
                start += len(transactions)
                if not future.done():
                    future.set_result(Scored(own, scored.model_version, scored.context_version))

    def _score(self, transactions: Sequence[Transaction], now: datetime) -> Scored:
        model = self.models.champion()
        with self._pool.connection() as connection:
            context = read_context(connection, transactions, now)
            recent = read_recent_scores(connection, model.version, context.network.as_of)
            detectors = CurrentDetectors(self._whale_btc)(connection)
            scores = score(transactions, context, model, detectors, recent)
        return Scored(scores, model.version, context.network.version)

    def waterfall(self, txid: str) -> Waterfall | None:
        """How the champion comes to the score of a stored transaction, None when it was never landed."""
        model = self.models.champion()
        with self._pool.connection() as connection:
            transaction, own = read_transaction(connection, txid), read_own_features(connection, txid)
            if transaction is None or own is None:
                return None
            network = read_network(connection, transaction.seen_at)
            recent = read_recent_scores(connection, model.version, network.as_of)
            features = np.array([own[name] for name in FEATURE_NAMES], np.float64)
            detectors = CurrentDetectors(self._whale_btc)(connection)
            return waterfall(TransactionBatch.of([transaction]), features, network, model, detectors, recent)


def read_network(connection: Connection, seen_at: datetime) -> NetworkContext:
    """The network's context of what was seen then: that of two windows before. Version 0 where none is published."""
    as_of = context_window(window_start(seen_at))
    return read_network_contexts(connection, [as_of]).get(as_of) or NetworkContext(as_of, version=0)


def read_context(connection: Connection, transactions: Sequence[Transaction], now: datetime) -> Context:
    """The context that a transaction seen now has."""
    network = read_network(connection, now)
    if network.version == 0:
        return Context(network)
    senders = {spent.addr for tx in transactions for spent in tx.inputs if spent.addr is not None}
    return Context(network, read_address_context(connection, network, senders))
