"""The lease: Envoy's right to refuse, which ends by itself.

Refusals are routes, each under a runtime key that names the generation of the routes. The agent
grants that key over Envoy's discovery protocol, as a runtime layer with a time to live, and renews
it several times within that time. So Envoy asks the gateway again, without any help, when the agent
is dead, frozen or cut off, when the routes are older than what the agent knows, and when Envoy
could not read the newest ones.

The messages come from xds-protos, of which the two modules below cost the agent 10 ms and 0.6 MiB.
It brings its own copies of `google.rpc` and `google.api`, which the wheel of
googleapis-common-protos has too; whichever pip installs last lies there. Both are generated from
the same definitions, and protobuf's runtime checks their version when they are imported. The rest
of Envoy's configuration stays JSON (typed.py): Envoy validates it in `make lint`, by its own
version's definitions, which those of a wheel may lag behind.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import structlog
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2

from edge.lease_name import LAYER
from edge.metrics import EDGE_LEASE_STREAMS_COUNT, EDGE_LEASES_REFUSED_TOTAL

SERVICE = rtds_pb2.DESCRIPTOR.services_by_name["RuntimeDiscoveryService"].full_name
METHOD = "StreamRuntime"
# Renewals within a lease's time: it outlives some that come late.
RENEWALS = 5
# Streams open at once; one Envoy has one, and a second while it restarts.
STREAMS_MAX = 8
# Percent: what the key is worth while it is granted.
GRANTED = 100

Context = grpc.aio.ServicerContext[Any, Any]
log = structlog.get_logger()


def runtime_response(
    values: dict[str, Any], *, version: str, ttl_s: float
) -> discovery_pb2.DiscoveryResponse:
    """Return the lease's runtime layer, as Envoy takes it: it expires by itself.

    Args:
        values: runtime keys and what they are.
        version: of this response; also its nonce.
        ttl_s: after so many seconds Envoy drops the values, unless another response has come.
    """
    runtime = rtds_pb2.Runtime(name=LAYER)
    runtime.layer.update(values)
    resource = discovery_pb2.Resource(name=LAYER, version=version)
    resource.resource.Pack(runtime)
    resource.ttl.FromNanoseconds(int(ttl_s * 1e9))
    response = discovery_pb2.DiscoveryResponse(
        version_info=version, type_url=resource.resource.type_url, nonce=version
    )
    response.resources.add().Pack(resource)
    return response


class Lease:
    """What Envoy may refuse at this moment, sent to each Envoy that has connected."""

    def __init__(self, *, ttl_s: float) -> None:
        """`ttl_s`: how long a grant holds without a renewal."""
        self._ttl_s = ttl_s
        self._key: str | None = None
        self._shed: Mapping[str, Any] = {}
        self._versions = itertools.count(1)
        self._changes: set[asyncio.Event] = set()
        self._closed = False

    def close(self) -> None:
        """End all streams, so that the server can drain; what was granted expires."""
        self._closed = True
        for change in self._changes:
            change.set()

    def grant(self, key: str | None) -> None:
        """Let refusals under this key hold, and no others; with None no refusal holds."""
        if key == self._key:
            return
        self._key = key
        for change in self._changes:
            change.set()

    def shed(self, values: Mapping[str, Any]) -> None:
        """Have Envoy use these runtime values, and no others beside the key that is granted."""
        if values == self._shed:
            return
        self._shed = values
        for change in self._changes:
            change.set()

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service that Envoy asks."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
        )

    async def _stream(
        self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], context: Context
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """Send the lease while Envoy is connected: at each change, and in time for each renewal."""
        if len(self._changes) >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams are open")
        changed = asyncio.Event()
        self._changes.add(changed)
        EDGE_LEASE_STREAMS_COUNT.set(len(self._changes))
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
            EDGE_LEASE_STREAMS_COUNT.set(len(self._changes))

    def _response(self) -> discovery_pb2.DiscoveryResponse:
        values = {**self._shed}
        if self._key is not None:
            values[self._key] = GRANTED
        return runtime_response(values, version=str(next(self._versions)), ttl_s=self._ttl_s)


async def _read(requests: AsyncIterator[discovery_pb2.DiscoveryRequest]) -> None:
    """Read Envoy's acknowledgements; log those that reject a response."""
    async for request in requests:
        if request.HasField("error_detail"):
            EDGE_LEASES_REFUSED_TOTAL.inc()
            log.error("lease refused by envoy", why=request.error_detail.message)
