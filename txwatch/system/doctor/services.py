"""What is elsewhere: the feed, Telegram, MLflow, the bucket of the reports.

No finding holds a secret: Telegram's answers are shown without its address, which holds the token.
"""

from collections.abc import Iterator
from typing import Any

import httpx

from txwatch.places import ObjectStoreError
from txwatch.settings import Settings
from txwatch.system.doctor.findings import Finding, first_line, good, note, place_of, wrong

SECONDS = 10.0


def look_at_feed(settings: Settings) -> Iterator[Finding]:
    """Whether the feed and its REST API can be reached, as the ingest worker reaches them."""
    from websockets.exceptions import InvalidURI, WebSocketException
    from websockets.sync.client import connect as connect_feed

    where = place_of(settings.stream_url)
    try:
        with connect_feed(settings.stream_url, open_timeout=SECONDS, close_timeout=SECONDS):
            yield good("feed", f"{where} answers")
    except InvalidURI:
        yield wrong("feed", "TXWATCH_STREAM_URL is no ws:// or wss:// address", "correct it")
    except (OSError, WebSocketException) as error:
        remedy = "is there a network, and does a firewall let WebSockets through? txwatch demo needs neither"
        yield wrong("feed", f"{where} cannot be reached: {first_line(error)}", remedy)
    where = place_of(settings.rest_url)
    try:
        httpx.get(settings.rest_url, timeout=SECONDS)
        yield good("blocks", f"{where} answers")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield note("blocks", f"{where} cannot be reached: {first_line(error)}", "without it no outage is recovered")


def look_at_telegram(settings: Settings) -> Iterator[Finding]:
    """Whether Telegram takes the token, and the bot may write to each chat."""
    if settings.telegram_bot_token is None:
        yield note(
            "Telegram", "TELEGRAM_BOT_TOKEN is not set", "alerts stay in the terminal, the API and the dashboard"
        )
        return
    where = place_of(settings.telegram_api_url)
    base = f"{settings.telegram_api_url.rstrip('/')}/bot{settings.telegram_bot_token.get_secret_value()}"
    answer = ask_telegram(f"{base}/getMe")
    if answer is None:
        yield wrong("Telegram", f"{where} cannot be reached", "check TELEGRAM_API_URL and the network")
        return
    if not answer.get("ok"):
        yield wrong("Telegram", "the token is refused", "copy TELEGRAM_BOT_TOKEN from @BotFather again")
        return
    yield good("Telegram", f"the token is that of @{answer.get('result', {}).get('username', 'unknown')}")
    hook = ask_telegram(f"{base}/getWebhookInfo")
    if hook and hook.get("ok") and hook["result"].get("url"):
        remedy = "if no other program needs it, call deleteWebhook of the Bot API; else give txwatch a bot of its own"
        yield wrong("Telegram", "a webhook is set on the bot: it hears no commands and no buttons", remedy)
    if not settings.telegram_chats:
        yield wrong("Telegram", "TELEGRAM_CHAT_ID names no chat", "write to the bot, and set the id of that chat")
    for chat in settings.telegram_chats:
        answer = ask_telegram(f"{base}/getChat", chat_id=chat)
        if answer and answer.get("ok"):
            yield good("Telegram", f"the bot sees chat {chat}")
        else:
            said = (answer or {}).get("description", "no answer")
            yield wrong("Telegram", f"chat {chat}: {said}", "add the bot to the chat, or correct TELEGRAM_CHAT_ID")


def ask_telegram(address: str, **parameters: str) -> dict[str, Any] | None:
    """Telegram's answer, None without one. The error is left out, for its text holds the address with the token."""
    try:
        answer = httpx.get(address, params=parameters, timeout=SECONDS).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("result", {}), dict) else None


def look_at_mlflow(settings: Settings) -> Iterator[Finding]:
    """Whether MLflow's server answers, if there is one."""
    address = settings.mlflow_tracking_uri
    if not address or not address.startswith("http"):
        yield good("MLflow", "its tables are in a database, its files under TXWATCH_HOME")
        return
    where = place_of(address)
    try:
        status = httpx.get(f"{address.rstrip('/')}/health", timeout=SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield wrong(
            "MLflow", f"{where} cannot be reached: {first_line(error)}", "start it, or unset MLFLOW_TRACKING_URI"
        )
        return
    if status == httpx.codes.OK:
        yield good("MLflow", f"{where} answers")
    else:
        yield wrong("MLflow", f"{where} answers with {status}", "name this host in its --allowed-hosts")


def look_at_reports(settings: Settings) -> Iterator[Finding]:
    """Whether the bucket of the drift reports can be read, if they are in one."""
    try:
        pages = settings.drift_pages
        if not pages.in_store:
            yield good("reports", f"their pages are in {pages.place}")
            return
        list(pages.place.iterdir())
        yield good("reports", f"{pages.place} can be read")
    except ObjectStoreError as error:
        yield wrong("reports", first_line(error), "correct TXWATCH_REPORTS, or what boto3 reads: docs/operations.md")
