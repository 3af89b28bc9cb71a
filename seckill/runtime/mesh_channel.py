"""Channels inside the mesh: in clear, or over TLS with a certificate that may change meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc

from seckill.runtime.mesh_tls import MeshTls
from seckill.runtime.store_tls import TlsContents

# How long calls on a channel with a certificate of the past may go on: longer than anyone watches
# an order.
OLD_CALLS_S = 960.0

Options = Sequence[tuple[str, Any]]


def mesh_channel(
    target: str,
    *,
    stage: str,
    tls: MeshTls | None,
    options: Options = (),
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """Return a channel to a stage at `target`; `tls`: None is in clear."""
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    return _RenewedChannel(
        tls,
        target,
        options=[*options, ("grpc.ssl_target_name_override", tls.name_of(stage))],
        interceptors=interceptors,
    )


class _RenewedChannel(grpc.aio.Channel):
    """A channel that calls of the future leave when the files change.

    gRPC's credentials of a client never change. So there is another channel for new calls, and the
    old one ends with its last call.
    """

    def __init__(
        self,
        tls: MeshTls,
        target: str,
        *,
        options: Options,
        interceptors: Sequence[grpc.aio.ClientInterceptor],
    ) -> None:
        self._tls = tls
        self._target = target
        self._options = options
        self._interceptors = interceptors
        self._contents = tls.contents()
        self._channel = self._open(self._contents)
        self._ending: set[asyncio.Task[None]] = set()

    def _open(self, contents: TlsContents) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=contents.ca,
            private_key=contents.key,
            certificate_chain=contents.certificate,
        )
        return grpc.aio.secure_channel(
            self._target, credentials, options=self._options, interceptors=self._interceptors
        )

    def current(self) -> grpc.aio.Channel:
        """Return the channel with the files as they are now."""
        contents = self._tls.contents()
        if contents is not self._contents:
            ended = asyncio.create_task(self._channel.close(OLD_CALLS_S), name="old certificate")
            self._ending.add(ended)
            ended.add_done_callback(self._ending.discard)
            self._contents, self._channel = contents, self._open(contents)
        return self._channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for task in list(self._ending):
            task.cancel()
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._each(lambda channel: channel.unary_unary(method, *arguments, **options))

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._each(lambda channel: channel.unary_stream(method, *arguments, **options))

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._each(lambda channel: channel.stream_unary(method, *arguments, **options))

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._each(lambda channel: channel.stream_stream(method, *arguments, **options))

    def _each(self, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        made: tuple[grpc.aio.Channel, Any] | None = None

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            channel = self.current()
            if made is None or made[0] is not channel:
                made = (channel, make(channel))
            return made[1](*arguments, **options)

        return call
