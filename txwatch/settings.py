"""Every setting, from the environment or `.env`. Defaults run the whole product on one machine without any."""

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from txwatch.errors import UserError
from txwatch.places import Place, place


class MissingSettingError(UserError):
    """A setting that this command cannot do without."""


class WrongSettingError(UserError):
    """A setting has a value that cannot be. The message leaves the value out: it may be a secret."""


def _env(name: str, description: str, default: object = None, **constraints: Any) -> Any:
    """A setting that is read from the environment variable `name`."""
    return Field(default, validation_alias=name, description=description, **constraints)


class Settings(BaseSettings):
    """The settings of one process. Times are UTC, amounts in the unit that the name says."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True)

    def __init__(self, **values: Any) -> None:
        """Read the settings. Raises WrongSettingError."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)]
            raise WrongSettingError("; ".join(wrong)) from None

    home: Path = _env("TXWATCH_HOME", "Where local state is kept.", Path(".txwatch"))
    database_url: SecretStr | None = _env(
        "DATABASE_URL", "postgresql:// URL. Unset: an embedded server under TXWATCH_HOME."
    )
    sources: str = _env(
        "TXWATCH_SOURCES",
        "Where transactions come from: `blockchain.info`, `bitcoin-core`, `mempool.space`, or several, separated by "
        "commas.",
        "blockchain.info",
    )
    stream_url: str = _env(
        "TXWATCH_STREAM_URL", "blockchain.info's WebSocket feed, or one like it.", "wss://ws.blockchain.info/inv"
    )
    bitcoin_rpc_url: SecretStr | None = _env(
        "BITCOIN_RPC_URL",
        "A node's RPC, http://user:password@host:port. Several nodes are separated by commas.",
    )
    bitcoin_zmq_url: str = _env(
        "BITCOIN_ZMQ_URL",
        "A node's zmqpubrawtx and zmqpubsequence, tcp://host:port; as many as there are nodes, in their order.",
        "tcp://127.0.0.1:28332",
    )
    mempool_space_url: str = _env(
        "MEMPOOL_SPACE_URL", "mempool.space, or a server of one's own like it.", "https://mempool.space"
    )
    rest_url: str = _env(
        "TXWATCH_REST_URL", "REST API that gives blocks, and the price of a bitcoin.", "https://blockchain.info"
    )
    whale_btc: float = _env(
        "TXWATCH_WHALE_BTC", "A whale moves at least this much to others, in BTC.", 500, gt=0, allow_inf_nan=False
    )
    whale_usd: float | None = _env(
        "TXWATCH_WHALE_USD",
        "The same limit in USD: what passes either one is a whale. Unset: BTC alone.",
        gt=0,
        allow_inf_nan=False,
    )
    material_btc: float = _env(
        "TXWATCH_MATERIAL_BTC",
        "Value below which an unusual transaction is worth no alert, in BTC, unless its fee is a hundredth of that.",
        0.1,
        ge=0,
        allow_inf_nan=False,
    )
    alerts_per_hour: float = _env(
        "TXWATCH_ALERTS_PER_HOUR", "Budget of alerts an hour that the forest may spend.", 12, gt=0
    )
    samples_a_day: int = _env(
        "TXWATCH_SAMPLES_A_DAY",
        "Unusual transactions without an alert that people are asked about every day, to estimate what is missed.",
        0,
        ge=0,
        le=50,
    )
    history_start: datetime | None = _env(
        "TXWATCH_HISTORY_START",
        "Earliest window, UTC; `txwatch migrate` records it. The first moves with TXWATCH_RETENTION_DAYS. Unset: the "
        "day of the first `txwatch migrate`.",
    )
    backfill_windows: int | None = _env(
        "TXWATCH_BACKFILL_WINDOWS",
        "Windows that one run of a backfill scores, where several machines share it. Unset: all of them.",
        gt=0,
    )
    address_shards: int = _env(
        "TXWATCH_ADDRESS_SHARDS",
        "Connections that count at once what addresses did, at most one for each core of PostgreSQL's machine: each "
        "takes a part of a backfill's time, or of a window's addresses.",
        1,
        ge=1,
        le=64,
    )
    retention_days: int = _env(
        "TXWATCH_RETENTION_DAYS",
        "Days of data that the database keeps. Alerts and what was sent stay. In Dagster the newest 95 of them have "
        "partitions.",
        90,
        ge=1,
        le=36_500,
    )
    archive: str | None = _env(
        "TXWATCH_ARCHIVE",
        "Folder, or s3://bucket/prefix, of days as Parquet; the database gives up only what is in it. Unset: none, and "
        "what is older than TXWATCH_RETENTION_DAYS is gone.",
    )
    archive_days: int | None = _env(
        "TXWATCH_ARCHIVE_DAYS",
        "Days that the archive keeps, at least TXWATCH_RETENTION_DAYS. Unset: all, for good.",
        ge=1,
        le=36_500,
    )
    reports: str | None = _env(
        "TXWATCH_REPORTS",
        "Folder, or s3://bucket/prefix, of the drift reports' pages. Unset: `reports` under TXWATCH_HOME.",
    )
    database_password: SecretStr | None = _env(
        "DATABASE_PASSWORD", "Password of a DATABASE_URL without one, for a container; read from the environment only."
    )
    database_user: str | None = _env(
        "DATABASE_USER", "User instead of that of DATABASE_URL, with DATABASE_PASSWORD; read from the environment only."
    )
    database_roles: Path | None = _env(
        "DATABASE_ROLES",
        "Folder with the passwords of the services' own roles in the database, which preparing it makes. Unset: none.",
    )
    code_host: str = _env(
        "TXWATCH_CODE_HOST", "Where Dagster reaches its code server; read from the environment only.", "127.0.0.1"
    )
    code_port: int = _env("TXWATCH_CODE_PORT", "Port of Dagster's code server; read from the environment only.", 3030)
    dagster_yaml: str = _env(
        "TXWATCH_DAGSTER_YAML", "Configuration of Dagster's instance; read from the environment only.", "dagster.yaml"
    )
    broker_url: SecretStr | None = _env(
        "TXWATCH_BROKER_URL",
        "Celery's broker, which `deploy/celery/dagster.yaml` names; read from the environment only.",
    )
    keeper: bool = _env(
        "TXWATCH_KEEPER",
        "Whether Dagster keeps a worker at the feed. False where `txwatch ingest --standby` does.",
        True,
    )
    redis_url: SecretStr | None = _env("REDIS_URL", "Redis for Feast's online store. Unset: Postgres.")
    rest_interval_seconds: float = _env(
        "TXWATCH_REST_INTERVAL_SECONDS", "Least time between two requests to the REST API.", 10, ge=0, le=3_600
    )
    spool_mb: int = _env(
        "TXWATCH_SPOOL_MB", "How much of the feed may wait on disk for the database, in MiB.", 1024, gt=0
    )
    api_key: SecretStr | None = _env(
        "TXWATCH_API_KEY",
        "Key for the API's writes and scoring. Unset: it answers on loopback only, and refuses both.",
        min_length=16,
    )
    api_private: bool = _env(
        "TXWATCH_API_PRIVATE", "Whether reading the API needs a key as well, one with the scope read.", False
    )
    api_url: str = _env(
        "TXWATCH_API_URL", "Where the dashboard asks the API how a score comes about.", "http://127.0.0.1:8000"
    )
    allowed_hosts: str = _env(
        "TXWATCH_ALLOWED_HOSTS",
        "Names by which others reach the web pages and the API, separated by commas; as NAME:PORT where a proxy "
        "has another port than 80 or 443. Loopback always does.",
        "",
    )
    # Not in a repr: it may hold a password.
    mlflow_tracking_uri: str | None = _env(
        "MLFLOW_TRACKING_URI", "MLflow server. Unset: the same Postgres, artifacts under TXWATCH_HOME.", repr=False
    )
    webhook_private: bool = _env(
        "TXWATCH_WEBHOOK_PRIVATE",
        "Whether webhooks and services may be at private and loopback addresses, which only this network reaches.",
        False,
    )
    telegram_bot_token: SecretStr | None = _env(
        "TELEGRAM_BOT_TOKEN", "Token of the Telegram bot. Unset: alerts stay visible in the terminal."
    )
    telegram_chat_id: str = _env("TELEGRAM_CHAT_ID", "Chats that get the alerts, separated by commas.", "")
    telegram_api_url: str = _env(
        "TELEGRAM_API_URL", "Telegram's Bot API, or a server that behaves like it.", "https://api.telegram.org"
    )

    @field_validator("archive_days")
    @classmethod
    def _outlasts_the_database(cls, days: int | None, known: ValidationInfo) -> int | None:
        """A day that left the archive first would be archived again for as long as the database has it."""
        if days is not None and days < known.data.get("retention_days", days):
            raise ValueError("less than TXWATCH_RETENTION_DAYS")
        return days

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names by which others than this machine reach its web servers."""
        return tuple(name for part in self.allowed_hosts.split(",") if (name := part.strip()))

    @property
    def telegram_chats(self) -> tuple[str, ...]:
        """The chats that get the alerts, none without a token. Names as `@name`, in lower case, as Telegram has them.

        So no chat is named as another channel may be.
        """
        if self.telegram_bot_token is None:
            return ()
        named = (chat for part in self.telegram_chat_id.split(",") if (chat := part.strip().lower()))
        return tuple(dict.fromkeys(f"@{chat}" if chat[0].isalpha() else chat for chat in named))

    def require_database_url(self) -> str:
        """DATABASE_URL, for what cannot bring a server of its own. Raises MissingSettingError."""
        if self.database_url is None:
            raise MissingSettingError(
                "DATABASE_URL is not set. `txwatch run` and `txwatch demo` bring a database of their own, which"
                " commands find while one of them runs with the same TXWATCH_HOME."
            )
        return self.database_url.get_secret_value()

    @property
    def spool(self) -> Path:
        """Where batches wait for the database. Workers of one machine share it."""
        return self.home.resolve() / "spool"

    @property
    def archive_place(self) -> Place | None:
        """Where the archive is, None without one. Raises ObjectStoreError if TXWATCH_ARCHIVE names no bucket."""
        where = place(self.archive) if self.archive else None
        return where.resolve() if isinstance(where, Path) else where

    @property
    def report_place(self) -> Place:
        """Where the pages of drift reports are. Raises ObjectStoreError if TXWATCH_REPORTS names no bucket."""
        where = place(self.reports) if self.reports else self.home / "reports"
        return where.resolve() if isinstance(where, Path) else where
