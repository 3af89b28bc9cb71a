"""Ask a gRPC server whether it is ready."""

from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from devstack.certificates import MeshCertificates

PROBE_TIMEOUT_S = 0.5


class GrpcReady:
    """The readiness of one server, as its health service tells it."""

    def __init__(
        self, address: str, service: str = "", *, mesh: MeshCertificates | None = None
    ) -> None:
        """
        Args:
            address: "host:port" or "unix:path".
            service: full name of the gRPC service; empty for the whole server.
            mesh: certificates of a mesh that demands them; None asks in clear.
        """
        self._address = address
        self._service = service
        self._mesh = mesh

    def at(self, address: str) -> Self:
        """Return the readiness of the same service at another address."""
        return type(self)(address, self._service, mesh=self._mesh)

    def __call__(self) -> bool:
        with open_local_channel(self._address, self._mesh) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=self._service), timeout=PROBE_TIMEOUT_S
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def open_local_channel(address: str, mesh: MeshCertificates | None) -> grpc.Channel:
    """Return a channel to a process of the stack; `mesh`: None is in clear."""
    if mesh is None or address.startswith("unix:"):
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=mesh.authority.read_bytes(),
        private_key=mesh.operator.key.read_bytes(),
        certificate_chain=mesh.operator.certificate.read_bytes(),
    )
    return grpc.secure_channel(address, credentials)
