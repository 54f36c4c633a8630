"""Score posted transactions: all that wait are scored at once, because a forest takes hardly longer for many."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from threading import Lock
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, Request
from psycopg_pool import ConnectionPool

from txwatch.api.access import MayScore
from txwatch.api.problems import ProblemError, documented
from txwatch.clock import Clock, context_window, utc_now, window_start
from txwatch.detection.alike import Neighbourhood, read_neighbourhood
from txwatch.detection.champion import Champion
from txwatch.detection.explain import Waterfall, waterfall
from txwatch.detection.model import ContractMismatchError, Model
from txwatch.detection.reasons import Reason
from txwatch.detection.registry import ModelRegistry
from txwatch.detection.rules import CurrentDetectors
from txwatch.detection.score import Score
from txwatch.detection.score import score as score_together
from txwatch.detection.threshold import read_recent_scores
from txwatch.features.addresses import read_address_context
from txwatch.features.batch import TransactionBatch, WindowFeatures, input_addresses
from txwatch.features.context import Context
from txwatch.features.contract import FEATURE_NAMES
from txwatch.features.network import read_network_context
from txwatch.queries.transactions import read_own_features
from txwatch.store.database import Connection
from txwatch.store.prices import price_at
from txwatch.store.transactions import read_transaction
from txwatch.wire.messages import MalformedMessageError, WireTransaction
from txwatch.wire.prices import worth
from txwatch.wire.transaction import Transaction, from_wire

MAX_AT_ONCE = 2_000
"""Transactions in one call of the forest. More would gain little, and make the requests behind them wait."""
MAX_WAITING = 20_000
"""Transactions that may wait. Requests beyond are told to come again, so that a flood takes no memory."""
REFRESH_SECONDS = 5.0
"""Within this a champion that was promoted elsewhere scores here."""


@dataclass(frozen=True)
class Scored:
    """The scores of a request's transactions, in their order, by which model and in which context; the price now."""

    scores: Sequence[Score]
    model_version: str
    context_version: int
    usd_price: float | None


class Models:
    """The registry, and its champion, which is looked up again every REFRESH_SECONDS."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self._lock = Lock()
        self._champion = Champion(registry)
        self._looked = -REFRESH_SECONDS

    def champion(self) -> Model:
        """The model that scores. Raises ProblemError before there is one that fits."""
        with self._lock:
            if time.monotonic() - self._looked >= REFRESH_SECONDS:
                try:
                    self._champion.refresh()
                except ContractMismatchError as error:
                    raise ProblemError(503, str(error)) from error
                self._looked = time.monotonic()
            if self._champion.model is None:
                raise ProblemError(503, "there is no champion yet: the first model is trained after 5,000 transactions")
            return self._champion.model

    def forget(self) -> None:
        """Look the champion up at the next call."""
        with self._lock:
            self._looked = -REFRESH_SECONDS


class Scorer:
    """Takes transactions from many requests and scores those that wait together, one batch after the other."""

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        models: Models,
        *,
        whale_btc: float,
        whale_usd: float | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._pool, self._models, self._clock = pool, models, clock
        self._detectors = partial(CurrentDetectors, whale_btc, whale_usd)
        self._waiting: deque[tuple[Sequence[Transaction], asyncio.Future[Scored]]] = deque()
        self._count_waiting = 0
        self._working: asyncio.Task[None] | None = None

    async def score(self, transactions: Sequence[Transaction]) -> Scored:
        """The scores of these transactions, as if they were seen now. Raises ProblemError where too many wait."""
        if self._count_waiting + len(transactions) > MAX_WAITING:
            detail = "too many transactions wait to be scored"
            raise ProblemError(503, detail, headers={"Retry-After": "1"})
        self._count_waiting += len(transactions)
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
            self._count_waiting -= count
            together = [tx for transactions, _ in batch for tx in transactions]
            try:
                scored = await asyncio.to_thread(self._score, together, self._clock())
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            scores = iter(scored.scores)
            for transactions, future in batch:
                own = list(islice(scores, len(transactions)))
                if not future.done():
                    future.set_result(replace(scored, scores=own))

    def _score(self, transactions: Sequence[Transaction], now: datetime) -> Scored:
        model = self._models.champion()
        with self._pool.connection() as connection:
            network = read_network_context(connection, context_window(window_start(now)))
            context = Context(network, read_address_context(connection, network, input_addresses(transactions)))
            recent = read_recent_scores(connection, model.version, network.as_of)
            detectors = self._detectors()(connection)
            scores = score_together(transactions, context, model, detectors, recent)
            price = price_at(connection, now)
        return Scored(scores, model.version, network.version, None if price is None else price.usd)

    def waterfall(self, txid: str) -> Waterfall | None:
        """How the champion comes to the score of a stored transaction, None when it was never landed."""
        model = self._models.champion()
        with self._pool.connection() as connection:
            transaction, own = read_transaction(connection, txid), read_own_features(connection, txid)
            if transaction is None or own is None:
                return None
            network = read_network_context(connection, context_window(window_start(transaction.seen_at)))
            recent = read_recent_scores(connection, model.version, network.as_of)
            features = np.array([[own[name] for name in FEATURE_NAMES]], np.float64)
            batch, context = TransactionBatch.of([transaction]), Context(network)
            window = WindowFeatures(window_start(transaction.seen_at), [transaction], batch, features, context)
            return waterfall(window, model, self._detectors()(connection), recent)

    def neighbours(self, txid: str) -> Neighbourhood | None:
        """Which transactions the champion sees as most like a stored one, None when it was never landed."""
        model = self._models.champion()
        with self._pool.connection() as connection:
            transaction, own = read_transaction(connection, txid), read_own_features(connection, txid)
            if transaction is None or own is None:
                return None
            features = np.array([own[name] for name in FEATURE_NAMES], np.float64)
            return read_neighbourhood(connection, model, txid, transaction.seen_at, features)


router = APIRouter(prefix="/v1/score", tags=["scoring"])

MAX_BATCH = 1_000


class WireBatch(msgspec.Struct):
    """A batch as it is posted. Each transaction is decoded by itself: a malformed one does not fail the others."""

    transactions: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


@dataclass(frozen=True)
class TransactionScore:
    """A posted transaction's score, above 0 and up to 1. Amounts in satoshi, the fee rate in sat/vB."""

    txid: str
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Reason]
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None
    value_usd: float | None
    usd_price: float | None
    """Of a bitcoin now."""


@dataclass(frozen=True)
class ScoreAnswer:
    """One score, by which model and in which context."""

    model_version: str
    context_version: int
    result: TransactionScore


@dataclass(frozen=True)
class Refused:
    """A transaction of a batch that was refused, by its place in it."""

    index: int
    reason: str


@dataclass(frozen=True)
class BatchAnswer:
    """The scores of a batch in the order in which it was posted, without those that were refused."""

    model_version: str
    context_version: int
    results: list[TransactionScore]
    refused: list[Refused]


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "the body must be application/json")
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def _described(example: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """The body's description. The framework is not left to decode it, for that takes ten times as long."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


TRANSACTION_SCHEMA = {"$ref": "#/components/schemas/WireTransaction"}
BATCH_SCHEMA = {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": TRANSACTION_SCHEMA}
_SPENT = {"value": 10740, "n": 0, "addr": "bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm", "script": "0014" + "d5" * 20}
EXAMPLE = {
    "hash": "23" * 32,
    "ver": 2,
    "size": 192,
    "lock_time": 0,
    "inputs": [{"sequence": 4294967293, "script": "", "prev_out": _SPENT}],
    "out": [{"value": 9520, "n": 0, "addr": "395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3", "script": "a914" + "50" * 20 + "87"}],
}


@router.post(
    "",
    summary="Score one transaction",
    dependencies=[MayScore],
    responses=documented(401, 413, 415),
    openapi_extra=_described(EXAMPLE, TRANSACTION_SCHEMA),
)
async def score(request: Request, body: Body) -> ScoreAnswer:
    """The body is the `x` of a feed message. Scored by the champion as if it was seen now; nothing is stored."""
    transaction = _decode(body)
    scored: Scored = await request.app.state.scorer.score([transaction])
    return ScoreAnswer(scored.model_version, scored.context_version, _results([transaction], scored)[0])


@router.post(
    "/batch",
    summary=f"Score up to {MAX_BATCH:,} transactions at once",
    dependencies=[MayScore],
    responses=documented(401, 413, 415),
    openapi_extra=_described(
        {"transactions": [EXAMPLE]},
        {"type": "object", "required": ["transactions"], "properties": {"transactions": BATCH_SCHEMA}},
    ),
    response_model=BatchAnswer,
)
async def score_batch(request: Request, body: Body) -> Any:
    """All of them at once. One that is malformed is named in `refused`; the others are scored."""
    try:
        posted = msgspec.json.decode(body, type=WireBatch).transactions
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProblemError(422, f"the body is no batch: {error}") from None
    good: list[Transaction] = []
    refused: list[Refused] = []
    for index, raw in enumerate(posted):
        try:
            good.append(_decode(raw))
        except ProblemError as error:
            refused.append(Refused(index, error.detail))
    if not good:
        raise ProblemError(422, f"every transaction was refused; the first: {refused[0].reason}")
    scored: Scored = await request.app.state.scorer.score(good)
    return BatchAnswer(scored.model_version, scored.context_version, _results(good, scored), refused)


def _decode(body: bytes | msgspec.Raw) -> Transaction:
    try:
        return from_wire(msgspec.json.decode(body, type=WireTransaction), utc_now())
    except (msgspec.MsgspecError, MalformedMessageError, UnicodeError, RecursionError) as error:
        raise ProblemError(422, f"this is no transaction of the feed: {error}") from None


def _results(transactions: Sequence[Transaction], scored: Scored) -> list[TransactionScore]:
    return [
        TransactionScore(
            txid=score.txid,
            score=score.score,
            threshold=score.threshold,
            is_anomaly=score.is_anomaly,
            reasons=score.reasons,
            value_sat=transaction.value_sat,
            fee_sat=transaction.fee_sat,
            fee_rate=transaction.fee_rate,
            value_usd=worth(transaction.value_sat, scored.usd_price),
            usd_price=scored.usd_price,
        )
        for transaction, score in zip(transactions, scored.scores, strict=True)
    ]
