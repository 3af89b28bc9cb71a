"""Ask a gRPC server whether it is ready."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_TIMEOUT_S = 0.5


class GrpcReady:
    """The readiness of one server, as its health service tells it."""

    def __init__(self, address: str, service: str = "") -> None:
        """
        Args:
            address: "host:port" or "unix:path".
            service: full name of the gRPC service; empty for the whole server.
        """
        self._address = address
        self._service = service

    def at(self, address: str) -> "GrpcReady":
        """Return the readiness of the same service at another address."""
        return GrpcReady(address, self._service)

    def __call__(self) -> bool:
        with grpc.insecure_channel(self._address) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=self._service), timeout=PROBE_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
