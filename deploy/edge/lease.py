"""The lease: Envoy's right to refuse, which ends by itself.

Refusals stand in routes, each under a runtime key that names the routes' own generation. The agent
grants that key over Envoy's discovery protocol, as a runtime layer with a time to live, and renews
it several times within that time. So Envoy goes back to asking the gateway, with no help from
anybody, when the agent is dead, frozen or cut off, when routes are older than what the agent knows,
and when Envoy could not read the newest ones.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from deploy.edge import xds
from deploy.edge.lease_name import LAYER
from deploy.edge.metrics import LEASE_STREAMS, LEASES_REFUSED

# Renewals within a lease's time: it outlives some that come late.
RENEWALS = 5
# Streams open at once; one Envoy has one, and a second while it restarts.
STREAMS_MAX = 8
# Percent: what the key is worth while it is granted.
GRANTED = 100

Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


class Lease:
    """What Envoy may do at this moment, told to each that has connected."""

    def __init__(self, *, ttl_s: float) -> None:
        """`ttl_s`: how long what was granted holds by itself."""
        self._ttl_s = ttl_s
        self._key: str | None = None
        self._versions = itertools.count(1)
        self._changes: set[asyncio.Event] = set()
        self._closed = False

    def close(self) -> None:
        """End all streams, so that the server can drain; what was granted runs out."""
        self._closed = True
        for change in self._changes:
            change.set()

    def grant(self, key: str | None) -> None:
        """Let refusals under this key hold, and no others; None: none at all."""
        if key == self._key:
            return
        self._key = key
        for change in self._changes:
            change.set()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service that Envoy asks."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._stream, request_deserializer=xds.DiscoveryRequest.FromString
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(xds.SERVICE, {xds.METHOD: handler}),)
        )

    async def _stream(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[bytes]:
        """Answers for as long as Envoy stays: at each change, and in time for each renewal."""
        if len(self._changes) >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams are open")
        changed = asyncio.Event()
        self._changes.add(changed)
        LEASE_STREAMS.set(len(self._changes))
        reading = asyncio.create_task(_read(requests), name="lease acknowledgements")
        try:
            while not (reading.done() or self._closed):
                changed.clear()
                yield self._response()
                try:
                    async with asyncio.timeout(self._ttl_s / RENEWALS):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            reading.cancel()
            self._changes.discard(changed)
            LEASE_STREAMS.set(len(self._changes))

    def _response(self) -> bytes:
        values = {} if self._key is None else {self._key: GRANTED}
        version = str(next(self._versions))
        return xds.runtime_response(LAYER, values, version=version, ttl_s=self._ttl_s)


async def _read(requests: AsyncIterator[Any]) -> None:
    """Envoy acknowledges each answer, or says why it will not have it."""
    async for request in requests:
        if request.error_detail:
            LEASES_REFUSED.inc()
            log.error("lease refused by envoy", why=request.error_detail.decode(errors="replace"))
