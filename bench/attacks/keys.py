"""What the gateway remembers of ten million users and as many addresses."""

import gc
import time
from typing import Any

import psutil

from gateway.addresses import ClientAddresses
from gateway.buckets import Buckets
from gateway.settings import GatewaySettings

KEYS = 10_000_000
MIB = 2**20
SETTINGS = GatewaySettings.model_fields


def measure_keys(count: int) -> dict[str, Any]:
    """Charge so many users, then as many addresses, once each.

    Returns:
        For each: how many buckets are left at the end, bytes for each of those, MiB by which the
        process has grown, and microseconds a call.
    """
    tracked_max = int(SETTINGS["gateway_buckets_max"].default)
    addresses = ClientAddresses(
        trusted=(),
        exempt=(),
        hops_max=1,
        remembered_max=int(SETTINGS["gateway_addresses_max"].default),
    )
    users, networks = (
        Buckets(kind, rate_per_s=1.0, burst=10, tracked_max=tracked_max) for kind in ("user", "ip")
    )

    def charge_user(number: int) -> None:
        users.take(f"user-{number:09}", number * 1e-6)

    def charge_address(number: int) -> None:
        high, low = number >> 16, number & 0xFFFF
        # Each in a /64 of its own.
        key = addresses.key(f"ipv6:[2001:db8:{high:x}:{low:x}::1]:1", None)
        networks.take(key, number * 1e-6)

    return {
        "keys": count,
        "users": _measure(charge_user, users, count),
        "addresses": _measure(charge_address, networks, count),
    }


def _measure(charge: Any, buckets: Buckets, count: int) -> dict[str, float]:
    before = _resident_bytes()
    start_s = time.perf_counter()
    for number in range(count):
        charge(number)
    took_s = time.perf_counter() - start_s
    grown = _resident_bytes() - before
    return {
        "kept": buckets.tracked,
        "bytes_per_key": round(grown / buckets.tracked, 1),
        "grown_mib": round(grown / MIB, 1),
        "us_a_call": round(1e6 * took_s / count, 2),
    }


def _resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
