"""The forms in which libraries want the one database URL. Each library lives in a schema of its own."""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit


def with_schema(database_url: str, schema: str) -> str:
    """The URL of the same database with `schema` as the search path, for libraries that name no schema."""
    parts = urlsplit(database_url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "options"]
    query.append(("options", f"-csearch_path={schema}"))
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def sqlalchemy_url(database_url: str) -> str:
    """The URL with the psycopg 3 driver named. Raises ValueError for anything but PostgreSQL."""
    scheme, separator, rest = database_url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def libpq_url(database_url: str) -> str:
    """The URL as libpq reads it, without a driver's name. Raises ValueError for anything but PostgreSQL."""
    return sqlalchemy_url(database_url).replace("postgresql+psycopg://", "postgresql://", 1)
