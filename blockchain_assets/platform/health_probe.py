"""Ask a code server whether it serves: `python -m blockchain_assets.platform.health_probe HOST PORT`.

Dagster's `dagster api grpc-health-check` asks the same, and imports all of Dagster for it: ten times the CPU, several
times a minute for as long as a container lives.
"""

import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

ANSWER_SECONDS = 10.0


def main(host: str, port: str) -> int:
    """The exit status: 0 if the server says that it serves."""
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(service="DagsterApi"), timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            print(f"{host}:{port}: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0 if answer.status == HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
