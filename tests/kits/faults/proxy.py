"""A TCP proxy between a service and its store that drops, resets, holds or delays bytes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from devstack.ports import LOOPBACK

CHUNK_BYTES = 65_536
# SO_LINGER on with 0 seconds: closing sends a reset.
LINGER_RESET = struct.pack("ii", 1, 0)


class FaultProxy:
    """Passes bytes both ways, until a test lets it fail.

    `requests` is the way from the client to the server, `replies` the way back: a way that is
    cleared is held (bytes wait), one that is set flows.
    """

    def __init__(self, host: str, port: int) -> None:
        """`host`, `port`: of the server."""
        self._upstream = (host, port)
        self._connections: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.delay_s = 0.0
        self.requests = asyncio.Event()
        self.replies = asyncio.Event()
        self.heal()
        self.port = 0

    def switch(self, host: str, port: int) -> None:
        """Lead new connections to another server; those that are open stay where they are."""
        self._upstream = (host, port)

    def freeze(self) -> None:
        """Hold the connections that are open, both ways and for good; new ones flow."""
        self.requests.clear()
        self.replies.clear()
        self.requests, self.replies = asyncio.Event(), asyncio.Event()
        self.heal()

    def heal(self) -> None:
        """Pass everything again, at once."""
        self._refusing = False
        self.delay_s = 0.0
        self.requests.set()
        self.replies.set()

    def reset(self) -> None:
        """Cut all connections with a reset, and accept new ones."""
        for pair in list(self._connections.items()):
            for writer in pair:
                with suppress(OSError):
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                writer.transport.abort()

    def drop(self) -> None:
        """Cut all connections, and accept no new ones until healed."""
        self._refusing = True
        self.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream_of(writer))
        except OSError:
            return
        self._connections[writer] = up_writer
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, up_writer, self.requests))
                ways.create_task(self._pass(up_reader, writer, self.replies))
        except* OSError:
            pass
        finally:
            self._connections.pop(writer, None)
            up_writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        # One side has ended: end the other, which ends both ways.
        raise ConnectionResetError

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also if it is cancelled before it has started.
        task.add_done_callback(lambda _: writer.transport.abort())

    def _upstream_of(self, _writer: asyncio.StreamWriter) -> tuple[str, int]:
        """Return host and port that a new connection leads to."""
        return self._upstream

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        """Listen on a free port of loopback, and set `port`."""
        async with self._listening(LOOPBACK, [0]) as ports:
            self.port = ports[0]
            yield self

    @asynccontextmanager
    async def _listening(self, host: str, ports: Sequence[int]) -> AsyncIterator[list[int]]:
        servers = [await asyncio.start_server(self._accept, host, port) for port in ports]
        try:
            yield [server.sockets[0].getsockname()[1] for server in servers]
        finally:
            for server in servers:
                server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


class ClusterProxy(FaultProxy):
    """Between one service and all nodes of a Redis Cluster, whichever of them it asks.

    It has an address of loopback of its own, and on it the ports of the nodes. The nodes do not
    name a host (cluster-preferred-endpoint-type unknown-endpoint), so that the service asks all of
    them at the address by which it knows one.
    """

    def __init__(self, host: str, ports: Sequence[int]) -> None:
        """`host`: where it listens, of 127.0.0.0/8; `ports`: of the nodes."""
        super().__init__(LOOPBACK, ports[0])
        self._host = host
        self._ports = ports

    @property
    def url(self) -> str:
        """redis:// address that names all nodes."""
        return "redis://" + ",".join(f"{self._host}:{port}" for port in self._ports)

    def _upstream_of(self, writer: asyncio.StreamWriter) -> tuple[str, int]:
        return LOOPBACK, int(writer.get_extra_info("sockname")[1])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        """Listen in the place of each node."""
        async with self._listening(self._host, self._ports):
            yield self
