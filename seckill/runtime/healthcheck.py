"""`python -m seckill.runtime.healthcheck TARGET …`: exits with 0 if the service at each is ready.

For container runtimes that, unlike Kubernetes, cannot call a gRPC health service themselves, and
for `helm test`. It asks in clear: of a mesh with TLS the listener for probes
(SECKILL_MESH_TLS_PROBE_LISTEN).
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


def main(targets: list[str]) -> int:
    """Say of each target whether it is ready; return the exit status."""
    if not targets:
        sys.stderr.write("usage: python -m seckill.runtime.healthcheck HOST:PORT …\n")
        return USAGE
    states = {target: ready(target) for target in targets}
    for target, is_ready in states.items():
        sys.stdout.write(f"{target} {'ready' if is_ready else 'NOT READY'}\n")
    return 0 if all(states.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
