"""A code server whose partitions follow the start of the history, which the nightly maintenance moves.

Dagster's own server keeps the definitions of its first moment. This one looks where the start is, and when it has moved
loads the definitions anew and takes another id. By that the web server and the daemon notice it within seconds: they
ask for the id each second, for it tells them of a server that was replaced. Runs go on, for the process is the same.
Processes of runs read the start themselves.
"""

import functools
import threading
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from txwatch.store.history_start import HistoryStart

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
"""Between two looks at the start, each of which is a query of one row."""


def follow_start(server: type[Any], read: Callable[[], HistoryStart], seconds: float = LOOK_SECONDS) -> None:
    """Make a code server class follow the start that `read` gives.

    Dagster's button to reload a code location, which its server only warns of, does the same at once.
    """
    initialize = server.__init__

    @functools.wraps(initialize)
    def initialize_and_follow(self: Any, *arguments: Any, **options: Any) -> None:
        before = read_or_none(read)  # a move while the definitions load is noticed at the first look
        initialize(self, *arguments, **options)
        self._location_name = options.get("location_name")
        look = threading.Thread(target=_look, args=(self, read, before, seconds), name="history-start", daemon=True)
        look.start()

    def reload_code(self: Any, _request: object, _context: object) -> Any:
        from dagster._grpc.__generated__ import dagster_api_pb2

        reload_definitions(self)
        return dagster_api_pb2.ReloadCodeReply()

    server.__init__, server.ReloadCode = initialize_and_follow, reload_code


def _look(server: Any, read: Callable[[], HistoryStart], loaded: HistoryStart | None, seconds: float) -> None:
    while not server._server_termination_event.wait(seconds):
        found = read_or_none(read)
        if found is not None and found != loaded:
            try:
                reload_definitions(server)
            except Exception as error:  # the next look tries again; until then all goes on as before
                log.warning("definitions_not_reloaded", cause=repr(error))
            else:
                log.info("history_start_moved", first_window=found.first_window.isoformat())
                loaded = found


def read_or_none(read: Callable[[], HistoryStart]) -> HistoryStart | None:
    """The start, None while the database is away."""
    try:
        return read()
    except Exception as error:
        log.warning("history_start_not_read", cause=repr(error))
        return None


def reload_definitions(server: Any) -> None:
    """Load a code server's definitions anew, and say so by another id. What is under way keeps those that it has."""
    from dagster._grpc.server import LoadedRepositories

    with server._reload_lock:
        server._loaded_repositories = LoadedRepositories(
            server._loadable_target_origin,
            entry_point=server._entry_point,
            container_image=server._container_image,
            container_context=server._container_context,
            defs_state_info=server._defs_state_info,
            code_location_name=server._location_name,
        )
        server._serializable_load_error = None
        server._server_id = str(uuid.uuid4())
