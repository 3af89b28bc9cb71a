"""The limits of the token buckets: the settings', or what operators have set in their place."""

import time
from collections.abc import Iterable
from typing import Protocol

from gateway.rules import GateRules
from gateway.settings import GatewaySettings


class Limited(Protocol):
    """Buckets, of this gateway or of all, with a name and limits."""

    name: str

    def adopt(self, *, rate_per_s: float, burst: int, now_s: float) -> None:
        """Limit by another rate and burst from now on."""


class BucketLimits:
    """Brings buckets to the limits in force; each has a rate and a burst by its name."""

    def __init__(self, settings: GatewaySettings, all_buckets: Iterable[Limited]) -> None:
        self._buckets = list(all_buckets)
        self._settings = {
            buckets.name: limits_of(settings, buckets.name) for buckets in self._buckets
        }
        self._in_force = dict(self._settings)

    def take_rules(self, rules: GateRules) -> None:
        """Limit by these rules from now on; by the settings where they say nothing."""
        now_s = time.monotonic()
        for buckets in self._buckets:
            name = buckets.name
            rate_per_s, burst = self._settings[name]
            limits = (
                rules.limits.get(f"rate_{name}", rate_per_s),
                int(rules.limits.get(f"burst_{name}", burst)),
            )
            if limits != self._in_force[name]:
                self._in_force[name] = limits
                buckets.adopt(rate_per_s=limits[0], burst=limits[1], now_s=now_s)


def limits_of(settings: GatewaySettings, name: str) -> tuple[float, int]:
    """Return the rate and the burst that the settings give the buckets of this name."""
    return (
        getattr(settings, f"gateway_rate_{name}"),
        getattr(settings, f"gateway_burst_{name}"),
    )
