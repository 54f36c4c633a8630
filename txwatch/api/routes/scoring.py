"""Scoring of posted transactions, in the form in which the feed sends them."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request

from txwatch.api.access import KeyRequired
from txwatch.api.problems import ProblemError, documented
from txwatch.api.scoring import Scored
from txwatch.clock import utc_now
from txwatch.detection.score import Score
from txwatch.queries.explanations import Explanation
from txwatch.wire.messages import MalformedMessageError, WireTransaction
from txwatch.wire.transaction import Transaction, from_wire

router = APIRouter(prefix="/v1/score", tags=["scoring"])

MAX_BATCH = 1_000


class WireBatch(msgspec.Struct):
    """A batch as it is posted. Each is decoded by itself, so that one that is malformed does not fail the others."""

    transactions: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


@dataclass(frozen=True)
class TransactionScore:
    """A posted transaction's score, above 0 and up to 1. Amounts in satoshi, the fee rate in sat/vB."""

    txid: str
    score: float
    threshold: float
    is_anomaly: bool
    reasons: list[Explanation]
    value_sat: int
    fee_sat: int | None
    fee_rate: float | None


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


_transaction = msgspec.json.Decoder(WireTransaction)
_batch = msgspec.json.Decoder(WireBatch)


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "the body must be application/json")
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def _described(example: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """The body's description. It is decoded here and not by the framework, which takes ten times as long."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


EXAMPLE = {
    "hash": "23" * 32,
    "ver": 2,
    "size": 192,
    "lock_time": 0,
    "inputs": [
        {
            "sequence": 4294967293,
            "script": "",
            "prev_out": {
                "value": 10740,
                "n": 0,
                "addr": "bc1q6klm0fkst4zvrc2ygwgekvxjsnqvpgg2jjfurm",
                "script": "0014" + "d5" * 20,
            },
        }
    ],
    "out": [{"value": 9520, "n": 0, "addr": "395H8VPYPtAoZWa2bx5SRyN2VojXrsb7j3", "script": "a914" + "50" * 20 + "87"}],
}


@router.post(
    "",
    summary="Score one transaction",
    dependencies=[KeyRequired],
    responses=documented(401, 413, 415),
    openapi_extra=_described(EXAMPLE, {"$ref": "#/components/schemas/WireTransaction"}),
)
async def score(request: Request, body: Body) -> ScoreAnswer:
    """The body is the `x` of a feed message. Scored by the champion as if it was seen now; nothing is stored."""
    transaction = _decode(body)
    scored: Scored = await request.app.state.scorer.score([transaction])
    return ScoreAnswer(scored.model_version, scored.context_version, _result(transaction, scored.scores[0]))


@router.post(
    "/batch",
    summary=f"Score up to {MAX_BATCH:,} transactions at once",
    dependencies=[KeyRequired],
    responses=documented(401, 413, 415),
    openapi_extra=_described(
        {"transactions": [EXAMPLE]},
        {
            "type": "object",
            "required": ["transactions"],
            "properties": {
                "transactions": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_BATCH,
                    "items": {"$ref": "#/components/schemas/WireTransaction"},
                }
            },
        },
    ),
    response_model=BatchAnswer,
)
async def score_batch(request: Request, body: Body) -> Any:
    """All of them at once. One that is malformed is named in `refused`; the others are scored."""
    try:
        posted = _batch.decode(body).transactions
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
    return BatchAnswer(scored.model_version, scored.context_version, list(map(_result, good, scored.scores)), refused)


def _decode(body: bytes | msgspec.Raw) -> Transaction:
    try:
        return from_wire(_transaction.decode(body), utc_now())
    except (msgspec.MsgspecError, MalformedMessageError, UnicodeError, RecursionError) as error:
        raise ProblemError(422, f"this is no transaction of the feed: {error}") from None


def _result(transaction: Transaction, score: Score) -> TransactionScore:
    return TransactionScore(
        txid=score.txid,
        score=score.score,
        threshold=score.threshold,
        is_anomaly=score.is_anomaly,
        reasons=[Explanation(r.kind, r.text, r.feature, r.value, r.percentile) for r in score.reasons],
        value_sat=transaction.value_sat,
        fee_sat=transaction.fee_sat,
        fee_rate=transaction.fee_rate,
    )
