"""Every setting, from the environment or `.env`. Defaults run the whole product on one machine without any."""

from datetime import datetime
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from txwatch.errors import UserError
from txwatch.places import Place, place


class MissingSettingError(UserError):
    """A setting that this command cannot do without."""


class Settings(BaseSettings):
    """The settings of one process. Times are UTC, amounts in the unit that the name says."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True, frozen=True)

    home: Path = Field(Path(".txwatch"), validation_alias="TXWATCH_HOME", description="Where local state is kept.")
    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="postgresql:// URL. Unset: an embedded server under TXWATCH_HOME.",
    )
    stream_url: str = Field(
        "wss://ws.blockchain.info/inv",
        validation_alias="TXWATCH_STREAM_URL",
        description="WebSocket feed of unconfirmed transactions.",
    )
    rest_url: str = Field(
        "https://blockchain.info",
        validation_alias="TXWATCH_REST_URL",
        description="REST API that gives blocks.",
    )
    whale_btc: float = Field(
        500,
        gt=0,
        validation_alias="TXWATCH_WHALE_BTC",
        description="Least likely moved value of a whale, in BTC.",
    )
    alerts_per_hour: float = Field(
        12,
        gt=0,
        validation_alias="TXWATCH_ALERTS_PER_HOUR",
        description="Budget of alerts an hour that the forest may spend.",
    )
    history_start: datetime | None = Field(
        None,
        validation_alias="TXWATCH_HISTORY_START",
        description="First window, UTC, kept in the database. Unset: the day of the first `txwatch migrate`.",
    )
    backfill_windows: int | None = Field(
        None,
        gt=0,
        validation_alias="TXWATCH_BACKFILL_WINDOWS",
        description="Windows that one run of a backfill scores, where several machines share it. Unset: all of them.",
    )
    retention_days: int = Field(
        90,
        ge=1,
        validation_alias="TXWATCH_RETENTION_DAYS",
        description="Days of data that are kept. Alerts and what was sent stay.",
    )
    reports: str | None = Field(
        None,
        validation_alias="TXWATCH_REPORTS",
        description="Folder, or s3://bucket/prefix, of the drift reports' pages. Unset: `reports` under TXWATCH_HOME.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis for Feast's online store. Unset: Postgres.",
    )
    rest_interval_seconds: float = Field(
        10,
        ge=0,
        validation_alias="TXWATCH_REST_INTERVAL_SECONDS",
        description="Least time between two requests to the REST API.",
    )
    spool_mb: int = Field(
        1024,
        gt=0,
        validation_alias="TXWATCH_SPOOL_MB",
        description="How much of the feed may wait on disk for the database, in MiB.",
    )
    api_key: SecretStr | None = Field(
        None,
        min_length=16,
        validation_alias="TXWATCH_API_KEY",
        description="Key for the API's writes and scoring. Unset: it answers on loopback only, and refuses both.",
    )
    api_url: str = Field(
        "http://127.0.0.1:8000",
        validation_alias="TXWATCH_API_URL",
        description="Where the dashboard asks the API how a score comes about.",
    )
    allowed_hosts: str = Field(
        "",
        validation_alias="TXWATCH_ALLOWED_HOSTS",
        description="Names by which others reach the web pages and the API, separated by commas; as NAME:PORT where a "
        "proxy has another port than 80 or 443. Loopback always does.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        repr=False,  # it may hold a password, which logs leave out
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow server. Unset: the same Postgres, artifacts under TXWATCH_HOME.",
    )
    telegram_bot_token: SecretStr | None = Field(
        None,
        validation_alias="TELEGRAM_BOT_TOKEN",
        description="Token of the Telegram bot. Unset: alerts stay visible in the terminal.",
    )
    telegram_chat_id: str = Field(
        "",
        validation_alias="TELEGRAM_CHAT_ID",
        description="Chats that get the alerts, separated by commas.",
    )
    telegram_api_url: str = Field(
        "https://api.telegram.org",
        validation_alias="TELEGRAM_API_URL",
        description="Telegram's Bot API, or a server that behaves like it.",
    )

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names by which others than this machine reach its web servers."""
        return tuple(name for part in self.allowed_hosts.split(",") if (name := part.strip()))

    @property
    def telegram_chats(self) -> tuple[str, ...]:
        """The chats that get the alerts, none without a token. Names in lower case: Telegram makes no difference."""
        if self.telegram_bot_token is None:
            return ()
        return tuple(dict.fromkeys(chat for part in self.telegram_chat_id.split(",") if (chat := part.strip().lower())))

    def require_telegram_token(self) -> str:
        """TELEGRAM_BOT_TOKEN, for what is of no use without it. Raises MissingSettingError."""
        if self.telegram_bot_token is None or not self.telegram_chats:
            raise MissingSettingError(
                "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID are not both set. @BotFather on Telegram gives a token."
            )
        return self.telegram_bot_token.get_secret_value()

    def require_database_url(self) -> str:
        """DATABASE_URL, for what cannot bring a server of its own. Raises MissingSettingError."""
        if self.database_url is None:
            raise MissingSettingError(
                "DATABASE_URL is not set. `txwatch run` and `txwatch demo` bring a database of their own."
            )
        return self.database_url.get_secret_value()

    @property
    def spool(self) -> Path:
        """Where batches wait for the database. Workers of one machine share it."""
        return self.home.resolve() / "spool"

    @property
    def report_place(self) -> Place:
        """Where the pages of drift reports are. Raises ObjectStoreError if TXWATCH_REPORTS names no bucket."""
        where = place(self.reports) if self.reports else self.home / "reports"
        return where.resolve() if isinstance(where, Path) else where
