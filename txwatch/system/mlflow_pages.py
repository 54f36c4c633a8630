"""`python -m txwatch.system.mlflow_pages --port P` serves MLflow's pages over our own tables, from the first visit on.

They are rarely opened and take 400 MB, so at first there is only a socket that listens. The first connection waits some
seconds, while MLflow is imported.
"""

import argparse
import os
import select
import socket


def main() -> None:
    """Wait for the first visitor, and serve from then on."""
    parser = argparse.ArgumentParser(prog="python -m txwatch.system.mlflow_pages")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        select.select([listening], [], [])
        serve(listening)


def serve(listening: socket.socket) -> None:
    """Serve on a socket that listens. The environment names the tables (MLFLOW_BACKEND_STORE_URI)."""
    import uvicorn

    from txwatch.detection.registry import ModelRegistry
    from txwatch.guard import mlflow_app
    from txwatch.settings import Settings

    settings = Settings()
    # Under a lock, for a training makes missing tables as well.
    registry = ModelRegistry.of(settings.home, settings.require_database_url(), None)
    registry.prepare()
    app = mlflow_app()
    from mlflow import server

    # As `mlflow server` passes them to its worker processes.
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = registry.tracking_uri
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(registry.artifacts)
    uvicorn.Server(uvicorn.Config(app, log_level="info")).run(sockets=[listening])


if __name__ == "__main__":
    main()
