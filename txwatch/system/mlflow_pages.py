"""`python -m txwatch.system.mlflow_pages --port P` serves MLflow's pages over our own tables, once somebody looks.

They are opened rarely and take 400 MB: until the first connection comes there is only a socket that listens. That
connection waits, some seconds, while MLflow is imported.
"""

import argparse
import os
import select
import socket

BACKLOG = 128


def main() -> None:
    """Wait for a connection, then serve, until a signal."""
    parser = argparse.ArgumentParser(prog="python -m txwatch.system.mlflow_pages")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    with socket.create_server(("127.0.0.1", port), backlog=BACKLOG) as listening:
        select.select([listening], [], [])
        serve(listening)


def serve(listening: socket.socket) -> None:
    """Serve on a socket that listens. The environment names the tables (MLFLOW_BACKEND_STORE_URI)."""
    import uvicorn

    from txwatch.detection.registry import ModelRegistry
    from txwatch.guard import mlflow_app
    from txwatch.settings import Settings

    settings = Settings()
    # A server that finds no tables makes them, and so does a training: not both at once.
    registry = ModelRegistry.of(settings.home, settings.require_database_url(), None)
    registry.prepare()
    app = mlflow_app()
    from mlflow import server

    # As `mlflow server` tells its workers, which would be further processes.
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = registry.tracking_uri
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(registry.artifacts)
    config = uvicorn.Config(app, log_level="info")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
