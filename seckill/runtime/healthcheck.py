"""`python -m seckill.runtime.healthcheck HOST:PORT`: exits with 0 if the service there is ready.

For container runtimes that, unlike Kubernetes, cannot call a gRPC health service themselves.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0
USAGE = 2


def ready(target: str) -> bool:
    """Return whether the service at `target` says that it is ready."""
    with grpc.insecure_channel(target) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
            )
        except grpc.RpcError as error:
            sys.stderr.write(f"{target}: {error}\n")
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m seckill.runtime.healthcheck HOST:PORT\n")
        return USAGE
    return 0 if ready(arguments[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
