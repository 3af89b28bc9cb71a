"""The yardstick: the least that a grpc.aio server can do.

One unary method, bytes in, the same bytes out, no protobuf, no interceptor, on uvloop.
"""

import argparse
import asyncio
from typing import Any

import grpc
import uvloop


async def _echo(request: bytes, _: object) -> bytes:
    return request


async def serve(listen: str) -> None:
    """Answer until the process is killed; `listen`: host:port."""
    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    server.add_insecure_port(listen)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listen", help="host:port")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().listen))
