"""Servers and callers of a mesh with TLS, in the test's own process."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from devstack.authority import Authority, Issued
from devstack.certificates import issue_stage
from seckill.runtime.callers import rows
from seckill.runtime.server import Health, serving
from seckill.runtime.settings import ProcessSettings

CALL_S = 10.0


def settings_of(authority: Authority, own: Issued, **changes: Any) -> ProcessSettings:
    """Return the settings of a process with this certificate."""
    return ProcessSettings.model_validate(
        {
            "profile": "development",
            "mesh_tls_ca": str(authority.certificate),
            "mesh_tls_certificate": str(own.certificate),
            "mesh_tls_key": str(own.key),
            **changes,
        }
    )


class EveryMethod(grpc.GenericRpcHandler):
    """Answers every method that the table says a stage serves, with the bytes that came.

    Attributes:
        seen: the certificate of the last caller, in PEM.
    """

    def __init__(self, stage: str) -> None:
        self._paths = {path for serves, path, _ in rows() if serves == stage}
        self.seen = b""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method in self._paths:
            return grpc.unary_unary_rpc_method_handler(self._answer)
        return None

    async def _answer(self, request: bytes, context: Any) -> bytes:
        self.seen = context.auth_context().get("x509_pem_cert", [b""])[0]
        return request


class Endless(grpc.GenericRpcHandler):
    """Answers WatchSales for ever, each time that something is written to it."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == "/seckill.v1.InventoryService/WatchSales":
            return grpc.stream_stream_rpc_method_handler(self._echo)
        return None

    async def _echo(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


@asynccontextmanager
async def served(
    settings: ProcessSettings, *handlers: grpc.GenericRpcHandler, listen: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """Serve with the server that every service has; yields its address."""
    async with serving(
        listen,
        lambda server: server.add_generic_rpc_handlers(handlers),
        settings=settings,
        health_state=Health([]),
        services=[],
    ) as port:
        yield f"127.0.0.1:{port}"


def credentials(authority: Authority, own: Issued | None) -> grpc.ChannelCredentials:
    """Return what a caller has; `own`: None is no certificate."""
    return grpc.ssl_channel_credentials(
        root_certificates=authority.certificate.read_bytes(),
        private_key=own.key.read_bytes() if own else None,
        certificate_chain=own.certificate.read_bytes() if own else None,
    )


def calling(address: str, authority: Authority, own: Issued | None) -> grpc.aio.Channel:
    """Return a channel of a caller, on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(address, credentials(authority, own), options=options)


async def refusal(channel: grpc.aio.Channel, path: str) -> grpc.aio.AioRpcError | None:
    """Make a call; return its failure, or None if it was answered."""
    method: Any = channel.unary_unary(path)
    try:
        await method(b"", timeout=CALL_S)
    except grpc.aio.AioRpcError as error:
        return error
    return None


def renew(authority: Authority, stage: str, own: Issued, directory: Path) -> Issued:
    """Put a new certificate of a stage in the place of `own`, as a mounted Secret would be.

    Returns:
        The same one in `directory`, where nothing replaces it.
    """
    made = issue_stage(authority, stage)
    kept = Issued(directory / "renewed.pem", directory / "renewed-key.pem")
    for source, copy, target in zip(
        (made.certificate, made.key),
        (kept.certificate, kept.key),
        (own.certificate, own.key),
        strict=True,
    ):
        shutil.copy(source, copy)
        if source != target:
            source.replace(target)
    return kept
