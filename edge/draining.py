"""Lets Envoy's calls end before it is ended: it ends at once when it is told to.

Envoy is told through its administration, whose socket is in the folder that both share.
"""

import asyncio
import re
from pathlib import Path

import structlog

from edge.bootstrap import ADMIN_SOCKET
from edge.settings import EdgeSettings

# Not ready any more; each connection is ended after its next answer, with GOAWAY or
# "connection: close". Unlike drain_listeners it can be taken back, if only the agent is restarted.
LEAVE = "POST /healthcheck/fail"
STAY = "POST /healthcheck/ok"
IN_FLIGHT = "GET /stats?filter=^http.edge.downstream_rq_active$"
ANSWER_TIMEOUT_S = 1.0
LOOK_S = 0.1
log = structlog.get_logger()


async def take_calls(settings: EdgeSettings) -> None:
    """Take back what an earlier agent may have said that has left."""
    await ask(settings.edge_directory, STAY)


async def drain(settings: EdgeSettings) -> None:
    """Have clients go elsewhere, and return once Envoy has no call, or after the drain timeout."""
    if await ask(settings.edge_directory, LEAVE) is None:
        return
    in_flight: int | None = None
    try:
        async with asyncio.timeout(settings.drain_timeout_s):
            # Also once it does not answer: it has ended. It does not tell by itself.
            while in_flight := await _calls_in_flight(settings):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        log.warning("calls cut off: the drain timeout is over", calls=in_flight)
    else:
        log.info("envoy drained")


async def _calls_in_flight(settings: EdgeSettings) -> int | None:
    """Return how many calls of the public Envoy has; None if it does not say."""
    answer = await ask(settings.edge_directory, IN_FLIGHT)
    found = re.search(rb"downstream_rq_active: (\d+)", answer or b"")
    return int(found[1]) if found else None


async def ask(directory: Path, request: str) -> bytes | None:
    """Return what the administration of the Envoy in this folder answers; None if it does not."""
    socket = directory / ADMIN_SOCKET
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                head = f"{request} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n"
                writer.write(f"{head}content-length: 0\r\n\r\n".encode())
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
