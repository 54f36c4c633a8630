"""Every setting, from the environment or `.env`. Defaults run the whole product on one machine without any."""

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from txwatch.errors import UserError
from txwatch.windows import window_start


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
        description="First window, UTC. Unset: the day of the first `txwatch migrate`.",
    )
    retention_days: int = Field(
        90,
        ge=1,
        validation_alias="TXWATCH_RETENTION_DAYS",
        description="Days of data that are kept. Alerts and what was sent stay.",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis for Feast's online store. Unset: Postgres.",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        repr=False,  # it may hold a password
        validation_alias="MLFLOW_TRACKING_URI",
        description="MLflow server. Unset: the same Postgres, artifacts under TXWATCH_HOME.",
    )

    def require_database_url(self) -> str:
        """DATABASE_URL, for what cannot bring a server of its own. Raises MissingSettingError."""
        if self.database_url is None:
            raise MissingSettingError(
                "DATABASE_URL is not set. `txwatch run` and `txwatch demo` bring a database of their own."
            )
        return self.database_url.get_secret_value()

    @cached_property
    def first_window(self) -> datetime:
        """Start of the first partition. Partitions before it do not exist, so it must never move forward."""
        recorded = self.home / "history_start"
        if self.history_start is not None:
            start = self.history_start
            start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
        elif recorded.exists():
            start = datetime.fromisoformat(recorded.read_text().strip())
        else:
            start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return window_start(start)
