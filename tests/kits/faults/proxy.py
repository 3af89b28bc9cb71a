"""A TCP proxy between a service and its store that drops, resets, holds or delays bytes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

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
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
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

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        """Listen on a free port of loopback, and set `port`."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
