"""A channel to a mesh with TLS whose every call comes from a stage that may make it."""

from collections.abc import Callable
from typing import Any, Self

import grpc

from devstack.certificates import MeshCertificates
from seckill.runtime.callers import OPERATOR, STAGES, rows


def credentials_of(certificates: MeshCertificates, stage: str) -> grpc.ChannelCredentials:
    """Return what a stage calls with."""
    own = certificates.stages[stage]
    return grpc.ssl_channel_credentials(
        root_certificates=certificates.authority.read_bytes(),
        private_key=own.key.read_bytes(),
        certificate_chain=own.certificate.read_bytes(),
    )


def permitted_stage(path: str) -> str:
    """Return a stage that may call a method; an operator if it is nobody's."""
    allowed = next((stages for _, known, stages in rows() if known == path), frozenset())
    return OPERATOR if OPERATOR in allowed else next((s for s in STAGES if s in allowed), OPERATOR)


class PermittedChannel(grpc.aio.Channel):
    """One connection for each stage that is needed."""

    def __init__(self, open_as: Callable[[str], grpc.aio.Channel]) -> None:
        """`open_as`: opens a channel of a stage."""
        self._open_as = open_as
        self._opened: dict[str, grpc.aio.Channel] = {}

    def _for(self, path: str) -> grpc.aio.Channel:
        return self._as(permitted_stage(path))

    def _as(self, stage: str) -> grpc.aio.Channel:
        if stage not in self._opened:
            self._opened[stage] = self._open_as(stage)
        return self._opened[stage]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for channel in self._opened.values():
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._as(OPERATOR).get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._as(OPERATOR).wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._as(OPERATOR).channel_ready()

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._for(method).unary_unary(method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._for(method).unary_stream(method, *arguments, **options)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._for(method).stream_unary(method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._for(method).stream_stream(method, *arguments, **options)
