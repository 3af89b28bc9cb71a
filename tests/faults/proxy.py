"""A TCP proxy between a stage and its store that drops, resets, holds or delays."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 65_536
# SO_LINGER on with 0 seconds: closing sends a reset.
LINGER_RESET = struct.pack("ii", 1, 0)


class FaultProxy:
    """Passes bytes both ways until told otherwise.

    `requests` is the way from the client to the server, `replies` the way back: a way that is
    cleared is held (bytes wait), one that is set flows.
    """

    def __init__(self, host: str, port: int) -> None:
        """`host`, `port`: where the server is."""
        self._upstream = (host, port)
        self._connections: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.delay_s = 0.0
        self.requests = asyncio.Event()
        self.replies = asyncio.Event()
        self.heal()
        self.port = 0

    def heal(self) -> None:
        """Pass everything again."""
        self._refusing = False
        self.delay_s = 0.0
        self.requests.set()
        self.replies.set()

    def reset(self) -> None:
        """Cut all connections with a reset; new ones are taken."""
        for pair in list(self._connections.items()):
            for writer in pair:
                with suppress(OSError):
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                writer.transport.abort()

    def drop(self) -> None:
        """Cut all connections and take no new ones until healed."""
        self._refusing = True
        self.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
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
            writer.transport.abort()
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

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultProxy"]:
        """Listen on a free port of loopback, told by `port`."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
