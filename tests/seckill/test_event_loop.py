"""The services' event loop."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.authority import Authority
from seckill.runtime.event_loop import EventLoop

# Far less than the 30 s that uvloop waits by itself.
PATIENCE_S = 10.0


@contextmanager
def silent_server(authority: Authority) -> Iterator[int]:
    """A TLS server that says something and then neither reads nor closes; yields its port."""
    issued = authority.issue("silent")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    ends = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"hello")
            ends.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ends.set()
            thread.join()


def test_a_tls_connection_ends_though_its_peer_does_not(tmp_path: Path) -> None:
    """A service that ends, or a reader of dead letters, would wait for Kafka otherwise."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.certificate))

    async def connect_and_close(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        closed = asyncio.ensure_future(writer.wait_closed())
        done, _ = await asyncio.wait([closed], timeout=PATIENCE_S)
        writer.transport.abort()
        # With an error, as its peer was given up.
        await asyncio.gather(closed, return_exceptions=True)
        assert done

    with (
        silent_server(authority) as port,
        asyncio.Runner(loop_factory=EventLoop) as runner,
    ):
        runner.run(connect_and_close(port))
