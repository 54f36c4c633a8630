"""The lines of alerts and digests, written in Telegram's HTML or as plain text."""

import html
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from txwatch.alerts.alert import Alert, is_of_transaction, kind_named
from txwatch.detection.kinds import RULE_PREFIX, Severity
from txwatch.detection.reasons import Reason, btc, money, priced
from txwatch.features.batch import TransactionBatch
from txwatch.features.transaction import moved_value
from txwatch.foreign import clean
from txwatch.labels.flows import FLOW_CLASSES
from txwatch.labels.label import EXCHANGE, UNKNOWN, Known, Label
from txwatch.wire.transaction import Transaction

MAX_UNITS = 4096
"""UTF-16 code units of a message without its markup: https://core.telegram.org/bots/api#sendmessage."""
_JOINER = "\N{ZERO WIDTH JOINER}"


@dataclass(frozen=True)
class Piece:
    """Plain text with one style, or a link."""

    text: str
    style: Literal["", "b", "i", "code"] = ""
    link: str | None = None

    def to_html(self) -> str:
        escaped = html.escape(self.text)
        if self.link is not None:
            return f'<a href="{html.escape(self.link)}">{escaped}</a>'
        return f"<{self.style}>{escaped}</{self.style}>" if self.style and self.text else escaped


Line = Sequence[Piece]


def units(text: str) -> int:
    """The length as Telegram counts it: UTF-16 code units."""
    return len(text) + sum(character > "\uffff" for character in text)


def cut(text: str, limit: int) -> str:
    """The text if it has at most `limit` UTF-16 units, else its beginning with an ellipsis, within the limit.

    Never splits a surrogate pair, nor a character from what combines with it.
    """
    if units(text) <= limit:
        return text
    if limit < 1:
        return ""
    lengths = itertools.accumulate(map(units, text))
    end = sum(1 for _ in itertools.takewhile(lambda length: length < limit, lengths))
    while end > 0 and _is_joined(text, end):
        end -= 1
    return text[:end] + "…"


def to_html(lines: Iterable[Line], limit: int = MAX_UNITS) -> str:
    """The lines as one message in Telegram's HTML. What does not fit is cut off."""
    written: list[str] = []
    for line in lines:
        parts: list[str] = []
        for piece in line:
            kept = cut(piece.text, limit)
            if kept:
                parts.append(Piece(kept, piece.style, piece.link).to_html())
            limit -= units(kept)
            if kept != piece.text:
                return "\n".join([*written, "".join(parts)]).rstrip("\n")
        written.append("".join(parts))
        limit -= 1
    return "\n".join(written).rstrip("\n")


def to_text(lines: Iterable[Line]) -> str:
    """The lines as plain text of any length, each link in brackets behind its words."""
    return "\n".join(
        "".join(piece.text + (f" ({piece.link})" if piece.link else "") for piece in line) for line in lines
    )


def _is_joined(text: str, at: int) -> bool:
    """Whether the character at `at` belongs to the one before it: an accent, a variation or skin tone, a joiner."""
    character = text[at]
    return (
        unicodedata.combining(character) > 0
        or unicodedata.category(character) in {"Mn", "Me", "Mc"}
        or character == _JOINER
        or text[at - 1] == _JOINER
        or "\N{EMOJI MODIFIER FITZPATRICK TYPE-1-2}" <= character <= "\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
    )


EXPLORER = "https://mempool.space/tx/"
MAX_REASONS = 3
MAX_DIGEST_LINES = 12
MAX_LABELS = 3
MAX_LINE_UNITS = 90
"""UTF-16 units about one alert in a digest: two lines on a phone."""


@dataclass(frozen=True)
class DigestLine:
    """One alert in a digest. Amount in satoshi, None when it is about no transaction."""

    alert: Alert
    value_sat: int | None


def alert_lines(
    alert: Alert,
    transaction: Transaction | None,
    sent_at: datetime | None,
    updates: Sequence[str] = (),
    known: Mapping[str, Known] = MappingProxyType({}),
    standing: str | None = None,
) -> list[Line]:
    """What is said about one alert, the title first, nothing of it twice.

    Without `sent_at` it does not say how soon it was sent. `known` are the labels of the transaction's addresses,
    `standing` says how it stands among what was seen before.
    """
    later = [[Piece(clean(update), "b")] for update in updates]
    if not is_of_transaction(alert.alert_key):
        noticed = [Piece(f"noticed {alert.seen_at:%H:%M:%S} UTC", "i")]
        return [_title(alert), *later, *([Piece(f"• {clean(r.text)}")] for r in alert.reasons), noticed]
    origin = [
        Piece(f"{alert.alert_key[:8]}…{alert.alert_key[-4:]}", link=EXPLORER + alert.alert_key),
        Piece(f" · seen {alert.seen_at:%H:%M:%S} UTC"),
        *([Piece(f", sent {duration(sent_at - alert.seen_at)} later")] if sent_at else []),
        Piece(" · rules only" if alert.model_version is None else f" · model {alert.model_version}"),
    ]
    how = [] if standing is None else [[Piece(f"📈 {standing}", "b")]]
    if transaction is None:  # after retention has removed it
        return [_title(alert), *later, *how, *_who(alert), *_reasons(alert, ""), origin]
    headline = _headline(alert, transaction)
    reasons = _reasons(alert, headline)
    facts = [Piece(_facts(alert, transaction, " ".join([headline, *(line[0].text for line in reasons)])))]
    who = [*_who(alert), *_labels(alert, transaction, known)]
    return [_title(alert, Piece(f" · {headline}")), *later, *how, *who, *reasons, facts, origin]


def digest_lines(
    lines: Sequence[DigestLine], uncertain: Sequence[str], now: datetime, refused_since: datetime | None = None
) -> list[Line]:
    """What is said about many alerts in one message, most severe first, and about those that may not have arrived.

    Since `refused_since` the channel had taken no messages.
    """
    message: list[Line] = []
    if refused_since is not None:
        message.append([Piece(f"⏸ No messages were taken here since {refused_since:%d %b %H:%M} UTC", "b")])
    if lines:
        kinds = Counter(kind_named(line.alert.kinds[0]).title for line in lines)
        message.append([Piece(f"🗂 {_count(len(lines), 'alert')} in one message", "b"), Piece(f" · {_span(lines)}")])
        message.append([Piece(", ".join(f"{title} {count:,}" for title, count in kinds.most_common()))])
        message.extend(digest_line(line, now) for line in lines[:MAX_DIGEST_LINES])
        if len(lines) > MAX_DIGEST_LINES:
            message.append([Piece(f"… and {len(lines) - MAX_DIGEST_LINES:,} more, as counted above", "i")])
    if uncertain:
        text = f"⚠️ {_count(len(uncertain), 'alert')} may not have reached you"
        message.append([Piece(text, "b"), Piece(", and will not be sent again:")])
        message.extend([_link(key)] for key in uncertain[:MAX_DIGEST_LINES])
        if len(uncertain) > MAX_DIGEST_LINES:
            message.append([Piece(f"… and {len(uncertain) - MAX_DIGEST_LINES:,} more", "i")])
    return message


def is_silent(alerts: Sequence[Alert]) -> bool:
    """Whether a message about these arrives without a sound: each is low or late."""
    return all(alert.severity is Severity.low or alert.late for alert in alerts)


def _title(alert: Alert, *more: Piece) -> Line:
    kinds = [kind_named(kind) for kind in alert.kinds if kind != "forest" or len(alert.kinds) == 1]
    names = ", ".join([kinds[0].title, *(kind.title.lower() for kind in kinds[1:])])
    return [Piece(f"{kinds[0].symbol} {names}", "b"), *more]


def _headline(alert: Alert, transaction: Transaction) -> str:
    """The fee of a fee accident, otherwise what likely moved."""
    if alert.kinds[0] in {"fee_accident", "package_fee"} and transaction.fee_sat is not None:
        return f"fee {money(transaction.fee_sat, alert.usd_price)}"
    for reason in alert.reasons:
        # A rule may be about what moved without anybody having asked between whom.
        if reason.feature == "moved_sat" and reason.value is not None and not reason.kind.startswith(RULE_PREFIX):
            # Into, out of or between exchanges is part of the title.
            known = any(kind in FLOW_CLASSES for kind in alert.kinds)
            moved = money(reason.value, alert.usd_price)
            return moved if known else f"{moved} between unknown parties"
    return money(float(moved_value(TransactionBatch.of([transaction])).likely[0]), alert.usd_price)


def _who(alert: Alert) -> list[Line]:
    """Between whom, where a flow says so."""
    return [[Piece(f"🏷 {clean(reason.text)}")] for reason in alert.reasons if reason.kind in FLOW_CLASSES]


def _reasons(alert: Alert, headline: str) -> list[Line]:
    """Why: the first reasons, without what the headline and the lines about who and how much say already."""
    if not alert.reasons and "forest" in alert.kinds:
        return [[Piece("• unusual as a whole, by no single feature")]]
    left = [reason for reason in alert.reasons if reason.kind not in FLOW_CLASSES]
    texts = [_without(reason, alert.usd_price, headline) for reason in left]
    lines: list[Line] = [[Piece(f"• {clean(text)}")] for text in texts if text]
    return lines[:MAX_REASONS]


def _without(reason: Reason, usd_price: float | None, headline: str) -> str:
    """The reason without the amount that the headline begins with, empty if there is nothing else to it."""
    if reason.value is None or not headline.startswith((btc(reason.value), f"fee {btc(reason.value)}")):
        return priced(reason, usd_price)
    if reason.kind == "whale":  # of its outputs the total is told below
        return ""
    return reason.text.removeprefix(f"fee of {btc(reason.value)}, ")


def _labels(alert: Alert, transaction: Transaction, known: Mapping[str, Known]) -> list[Line]:
    """Whom labels name on each side and their sources, where no reason says it."""
    said = " ".join(reason.text for reason in alert.reasons)
    senders = [coin.addr for coin in transaction.inputs]
    sides = (("from", senders), ("to", [coin.addr for coin in transaction.outputs if coin.addr not in senders]))
    lines: list[Line] = []
    for word, addresses in sides:
        labels = {known[address].best for address in addresses if address is not None and address in known}
        # Exchanges are everywhere: a mixer or a sanctioned party beside one comes first.
        order = sorted(labels, key=lambda label: (label.category == EXCHANGE, label.entity, label.source))
        named = {label.party: label for label in order if label.entity not in said}
        if named:
            shown = "; ".join(_label(label) for label in list(named.values())[:MAX_LABELS])
            more = f" and {len(named) - MAX_LABELS:,} more" if len(named) > MAX_LABELS else ""
            lines.append([Piece(f"🏷 {word} {shown}{more}")])
    return lines


def _label(label: Label) -> str:
    category = "" if label.category == UNKNOWN else f"{label.category.replace('_', ' ')}, "
    return cut(clean(f"{label.entity} ({category}{label.source})"), MAX_LINE_UNITS)


def _facts(alert: Alert, transaction: Transaction, said: str) -> str:
    """Total, fee and counts, without the amounts that were said."""
    facts = []
    if btc(transaction.value_sat) not in said:
        facts.append(f"total {money(transaction.value_sat, alert.usd_price)}")
    if transaction.fee_sat is None or transaction.fee_rate is None:
        facts.append("fee unknown")
    else:
        rate = "" if "sat/vB" in said else f"{transaction.fee_rate:,.1f} sat/vB"
        if f"fee {btc(transaction.fee_sat)}" not in said and f"fee of {btc(transaction.fee_sat)}" not in said:
            facts.append(f"fee {money(transaction.fee_sat, alert.usd_price)}" + (f" ({rate})" if rate else ""))
        elif rate:
            facts.append(rate)
    return ", ".join([*facts, f"{transaction.input_count:,} in → {transaction.output_count:,} out"])


def digest_line(line: DigestLine, now: datetime) -> Line:
    """One alert in one line."""
    alert = line.alert
    kind = kind_named(alert.kinds[0])
    what = clean(priced(alert.reasons[0], alert.usd_price)) if alert.reasons else kind.title.lower()
    # A detector's reason begins with the amount that it is about.
    amount = (
        "" if line.value_sat is None or alert.kinds[0] != "forest" else f"{money(line.value_sat, alert.usd_price)} · "
    )
    at = f"{alert.seen_at:%H:%M:%S}" if now - alert.seen_at < timedelta(days=1) else f"{alert.seen_at:%d %b %H:%M}"
    return [Piece(f"{kind.symbol} {at} "), _link(alert.alert_key), Piece(cut(f" {amount}{what}", MAX_LINE_UNITS))]


def _link(key: str) -> Piece:
    return Piece(f"{key[:8]}…", link=EXPLORER + key) if is_of_transaction(key) else Piece(clean(key))


def _span(lines: Sequence[DigestLine]) -> str:
    first, last = min(line.alert.seen_at for line in lines), max(line.alert.seen_at for line in lines)
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%d %b %H:%M}"
    return f"seen {first:%d %b %H:%M} to {until} UTC"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(length: timedelta) -> str:
    """A length of time in one unit."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


def ordinal(number: int) -> str:
    """A place in an order, such as 2nd."""
    ending = "th" if 11 <= number % 100 <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
