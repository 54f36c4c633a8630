"""The HTTP routes as a page: `docs/reference/routes.md`."""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from txwatch.api.access import Required
from txwatch.api.app import ROUTERS
from txwatch.api.routes import health


def routes_page() -> str:
    """`docs/reference/routes.md`."""
    always = _section(health.unkeyed, "Without a key, whatever is set")
    sections = "\n".join([always, *(_section(module.router) for module in ROUTERS)])
    return f"""\
# Routes

Of the API, by subject. *key*: the scope that a key needs; reading needs none, unless `TXWATCH_API_PRIVATE` is set, and
then `read`. [The HTTP API](../api.md) says how keys, pages, amounts and errors are meant; bodies and answers with
examples are at `/docs` of a running one, and in `/openapi.json`.

{sections}"""


def _described(router: APIRouter) -> Iterator[APIRoute | APIWebSocketRoute]:
    for route in router.routes:
        if isinstance(route, APIWebSocketRoute) or (isinstance(route, APIRoute) and route.include_in_schema):
            yield route


def _section(router: APIRouter, title: str | None = None) -> str:
    described = FastAPI()
    described.include_router(router)
    paths = described.openapi()["paths"]
    title = title or str(router.tags[0]).capitalize()
    lines = [f"## {title}", "", "| route | gives or does | parameters | key |", "| --- | --- | --- | --- |"]
    for route in _described(router):
        if isinstance(route, APIWebSocketRoute):
            text = inspect.cleandoc(route.endpoint.__doc__ or "").partition("\n")[0]
            lines.append(
                f"| `{route.path}` (WebSocket) | {text} | {_names(route.dependant.query_params)} | {_scope(route)} |"
            )
            continue
        for method in sorted(route.methods or ()):
            operation = paths[route.path][method.lower()]
            parameters = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            lines.append(
                f"| `{method} {route.path}` | {operation['summary']} | {', '.join(f'`{one}`' for one in parameters)} "
                f"| {_scope(route)} |"
            )
    return "\n".join([*lines, ""])


def _names(parameters: list[Any]) -> str:
    """The names of query parameters, and of the fields of one that is a model of several."""
    names = [name for one in parameters for name in getattr(one.field_info.annotation, "model_fields", [one.alias])]
    return ", ".join(f"`{name}`" for name in names)


def _scope(route: APIRoute | APIWebSocketRoute) -> str:
    scopes = {one.call.scope for one in route.dependant.dependencies if isinstance(one.call, Required)}
    return ", ".join(f"`{scope}`" for scope in sorted(scopes))
