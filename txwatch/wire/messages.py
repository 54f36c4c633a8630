"""The blockchain.info WebSocket protocol: one struct for each message, decoded and validated by msgspec."""

from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

SAT_PER_BTC = 100_000_000
MAX_SUPPLY_SAT = 21_000_000 * SAT_PER_BTC

Amount = Annotated[int, Meta(ge=0, le=MAX_SUPPLY_SAT)]
"""Satoshi."""
Count = Annotated[int, Meta(ge=0, lt=2**32)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]  # `$` alone lets a line break pass
HexScript = str

# `gc=False`: these hold no cycles, and the collector would walk each of them again and again.
# Fields that sizes, types and replaceability follow from have no default: an absent script is not an empty one.


class WirePrevout(Struct, gc=False):
    """The output that an input spends. The feed resolves it, but does not say which transaction made it."""

    value: Amount
    script: HexScript
    n: Count
    addr: str | None = None


class WireInput(Struct, gc=False):
    """An input; `prev_out` is missing where the feed does not know what it spends."""

    script: HexScript
    sequence: Count
    prev_out: WirePrevout | None = None


class WireOutput(Struct, gc=False):
    """An output; `value` is in satoshi, and `addr` is missing where the script pays no address."""

    value: Amount
    script: HexScript
    n: Count
    addr: str | None = None


class WireTransaction(Struct):
    """An unconfirmed transaction; `size` is in bytes and counts the witness, `time` is in whole seconds UTC."""

    hash: Hash
    size: Annotated[int, Meta(gt=0, le=4_000_000)]
    inputs: list[WireInput]
    out: list[WireOutput]
    ver: Annotated[int, Meta(ge=-(2**31), lt=2**32)]
    lock_time: Count
    time: Count | None = None
    vin_sz: Count | None = None
    vout_sz: Count | None = None


class WireBlock(Struct):
    """A block announcement. It names no transactions: those need `/rawblock/<hash>`."""

    hash: Hash
    height: Annotated[int, Meta(ge=0, lt=2**31)]
    time: Count
    n_tx: Annotated[int, Meta(ge=0, lt=2**31)] = msgspec.field(name="nTx", default=0)


class UnconfirmedTransaction(Struct, tag_field="op", tag="utx"):
    """The message of a transaction."""

    x: WireTransaction


class BlockAnnouncement(Struct, tag_field="op", tag="block"):
    """The message of a block."""

    x: WireBlock


class FeedStatus(Struct, tag_field="op", tag="status"):
    """The message of the feed about itself."""

    msg: str | None = None


class UnknownOperation(Struct):
    """An operation that is not used here, such as the undocumented reply to `ping`."""

    op: str


Message = UnconfirmedTransaction | BlockAnnouncement | FeedStatus
_decoder = msgspec.json.Decoder(Message)
_operation = msgspec.json.Decoder(UnknownOperation)
KNOWN_OPERATIONS = frozenset({"utx", "block", "status"})


class MalformedMessageError(ValueError):
    """A message that breaks the protocol; its text is the reason in the quarantine."""


def decode(body: bytes | str) -> Message | UnknownOperation:
    """Decode one feed message. Raises MalformedMessageError with the reason and the path within the message."""
    try:
        message: Message = _decoder.decode(body)
        return message
    except msgspec.ValidationError as error:
        with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            operation = _operation.decode(body)
            if operation.op not in KNOWN_OPERATIONS:
                return operation
        raise MalformedMessageError(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedMessageError(f"not JSON: {error}") from None


SUBSCRIBE_TRANSACTIONS = '{"op":"unconfirmed_sub"}'
SUBSCRIBE_BLOCKS = '{"op":"blocks_sub"}'
PING = '{"op":"ping"}'
