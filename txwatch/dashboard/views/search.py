"""Search: a transaction, an address or a name, from every page."""

from html import escape

import streamlit as st

from txwatch.archive.look_up import Sought
from txwatch.clock import utc_now
from txwatch.dashboard import look
from txwatch.dashboard.data import ask, history
from txwatch.dashboard.span import address
from txwatch.labels.whales import RecordedWhale, list_whale_moves
from txwatch.queries.alerts import FLOW_WORDS
from txwatch.queries.history import ArchiveBusyError, ArchivedPage
from txwatch.queries.search import (
    LEAST_DIGITS,
    AddressTransaction,
    Found,
    FoundAddress,
    FoundEntity,
    FoundTransaction,
    address_in,
    amounts,
    find,
    is_txid,
)
from txwatch.queries.transactions import TransactionSummary
from txwatch.store.database import storable

HINT = "Transaction id, address, name, or 12.5-13 BTC"
MOST_LETTERS = 100


def ask_for(found: st.Page, one: st.Page) -> None:
    """The field above every page: what is typed leads to the page `found`, a txid to that of `one` transaction."""
    typed = st.text_input(
        "Search", key="typed", type="search", placeholder=HINT, label_visibility="collapsed", max_chars=MOST_LETTERS
    )
    text = (typed or "").strip()
    if text and text != st.session_state.get("asked"):
        st.session_state["asked"] = text
        if is_txid(text.lower()):
            st.switch_page(one, query_params={"txid": text.lower()})
        st.switch_page(found, query_params={"q": text})
    st.session_state["asked"] = text


def page() -> None:
    """What was found for the text that the address names."""
    st.title("Search")
    text = storable(st.query_params.get("q", "")).strip()[:MOST_LETTERS]
    if not text:
        st.html(look.empty(f"{HINT}: the field above finds it, {LEAST_DIGITS} digits of an id are enough."))
        return
    found = ask(find, text, utc_now())
    whales = ask(list_whale_moves, entity=text, limit=20) or [
        whale for one in found.entities[:3] for whale in ask(list_whale_moves, entity=one.entity, limit=10)
    ]
    archived = _archived(text)
    if found == Found([], [], [], []) and not whales and not archived.items:
        st.html(
            look.empty(f"Nothing is known of “{text}”: no transaction, no label, no recent move of such an address.")
        )
        return
    if found.transactions:
        st.header("Transactions")
        st.html("".join(map(_transaction, found.transactions)))
    if found.addresses:
        st.header("What is known of this address")
        st.html("".join(map(_address, found.addresses)))
    if found.of_address:
        st.header("Its newest transactions")
        st.html("".join(map(_move, found.of_address)))
    if archived.items:
        st.header("In the archive")
        st.html("".join(map(_archived_transaction, archived.items)))
        st.caption("What the database has given up to the archive, the newest first.")
    if found.entities:
        st.header("Names")
        st.html("".join(map(_entity, found.entities)))
    if whales:
        st.header("Whales of these names")
        st.html("".join(map(_whale, whales)))


def _archived(text: str) -> ArchivedPage:
    """What only the archive has of an address or a range of amounts; says which days could not be read."""
    named, between = address_in(text), amounts(text)
    if named is None and between is None:
        return ArchivedPage([], None, [])
    least, most = between or (None, None)
    sought = Sought(None, named, least, most)
    try:
        page = ask(history().page, sought, 20)
    except ArchiveBusyError as error:
        page = ArchivedPage([], None, [f"{error}: search again"])
    if page.missing:
        st.warning("Not all of the archive was read: " + look.as_written("; ".join(page.missing)) + ".")
    return page


def _archived_transaction(one: TransactionSummary) -> str:
    return look.item([look.link(one.txid), look.at(one.seen_at)], look.amount(one.value_sat, one.usd_price))


def _transaction(one: FoundTransaction) -> str:
    head = [look.link(one.txid), look.at(one.seen_at), *([look.chip("alert")] if one.alerted else [])]
    return look.item(head, look.amount(one.value_sat))


def _address(one: FoundAddress) -> str:
    named = [] if one.entity is None else [f"{one.entity}, {_words(one.category or '')}, by {one.source}"]
    return look.item(
        [look.address_link(one.address)], "; ".join([*named, *([f"watched: {one.watched}"] if one.watched else [])])
    )


def _move(one: AddressTransaction) -> str:
    moved = [f"paid {look.amount(one.received_sat)}"] if one.received_sat else []
    moved += [f"spent {look.amount(one.spent_sat)}"] if one.spent_sat else []
    head = [look.link(one.txid), look.at(one.seen_at), *([look.chip("alert")] if one.alerted else [])]
    return look.item(head, " and ".join(moved))


def _entity(one: FoundEntity) -> str:
    name = f'<a class="plain" href="{escape(address("search", q=one.entity))}" target="_self">{escape(one.entity)}</a>'
    known = f"{one.addresses:,} addresses known" if one.addresses != 1 else "1 address known"
    return look.item([name, *(look.chip(_words(c)) for c in one.categories)], f"{known}, by {', '.join(one.sources)}")


def _whale(one: RecordedWhale) -> str:
    who = f"{', '.join(one.senders) or 'unknown'} to {', '.join(one.receivers) or 'unknown'}"
    head = [look.link(one.txid), look.at(one.seen_at), look.chip(FLOW_WORDS[one.flow])]
    return look.item(head, f"{look.amount(one.moved_sat, one.usd_price)} likely moved, {who}")


def _words(category: str) -> str:
    return category.replace("_", " ")
