"""`python -m seckill.healthcheck HOST:PORT`: exits with 0 where the stage there is ready.

For container runtimes that, unlike Kubernetes, cannot ask a gRPC health service by themselves.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0
USAGE = 2


def ready(target: str) -> bool:
    """Whether the stage at `target` says that it serves."""
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
    """The exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m seckill.healthcheck HOST:PORT\n")
        return USAGE
    return 0 if ready(arguments[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
