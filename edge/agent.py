"""The agent: keeps Envoy's routes and lease in line with what inventory says of the sales."""

import asyncio
import secrets
import time

import structlog

from edge.lease import Lease
from edge.lease_name import LAYER
from edge.metrics import EDGE_HALTED, EDGE_REFUSED_SALES_COUNT, EDGE_ROUTES_WRITTEN_TOTAL
from edge.refusals import HolderPatterns, RefusalPlan, plan_refusals
from edge.render import write_routes
from edge.settings import EdgeSettings
from edge.web import WebFile, list_files, of_the_public
from seckill.runtime.clock import Clock
from seckill.runtime.sale_view import SaleView, apply_changes
from seckill.v1 import inventory_pb2

# Sales start and end without a message.
TICK_S = 0.1
# Static files are looked at this often.
FILES_S = 1.0

log = structlog.get_logger()


class Agent:
    """Decides what Envoy refuses: writes it as routes, and grants their lease."""

    def __init__(self, settings: EdgeSettings, lease: Lease, *, clock: Clock) -> None:
        self._settings = settings
        self._lease = lease
        self._clock = clock
        self._views: dict[str, SaleView] = {}
        # The kill switch, by the last message that named it.
        self._halted = False
        # Monotonic; None while there is no stream.
        self._last_message_s: float | None = None
        self._patterns = HolderPatterns()
        self._changed = asyncio.Event()
        # Part of each key: routes that an earlier agent left behind are never granted.
        self._agent_id = secrets.token_hex(8)
        self._generation = 0
        self._written: RefusalPlan | None = None
        self._files: tuple[WebFile, ...] = ()
        self._list_files_next_s = float("-inf")

    def apply(self, message: inventory_pb2.WatchSalesResponse) -> None:
        """Apply a message of the stream."""
        if message.complete:
            log.info("sales stream is up")
        self._views = apply_changes(self._views, message)
        if message.HasField("kill_switch"):
            self._halted = message.kill_switch.on
        self._last_message_s = self._clock.monotonic_s()
        if message.ByteSize():
            self._changed.set()

    def stream_broken(self) -> None:
        """Stop using what the stream said: it has ended."""
        self._last_message_s = None
        self._changed.set()

    async def run(self) -> None:
        """Run `run_once` at each change and ten times a second, until cancelled."""
        while True:
            self.run_once()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def run_once(self) -> RefusalPlan:
        """Write the routes and grant their lease if they have changed; return what they hold."""
        self._changed.clear()
        is_fresh = self._is_fresh()
        halted = is_fresh and self._halted
        views = self._views if is_fresh and not halted else {}
        sales = plan_refusals(views, self._settings, self._patterns, now_s=self._clock.now_s())
        plan = RefusalPlan(files=self._static_files(), halted=halted, sales=sales)
        if plan != self._written:
            self._write(plan)
        return plan

    def _is_fresh(self) -> bool:
        """Whether the stream is up and its last message is young enough to act upon."""
        if self._last_message_s is None:
            return False
        age_s = self._clock.monotonic_s() - self._last_message_s
        return age_s < self._settings.edge_sale_cache_ttl_s

    def _write(self, plan: RefusalPlan) -> None:
        """Withdraw the old lease, then replace the routes, then grant theirs.

        Routes that cannot be written get no lease; the next round tries again.
        """
        start_s = time.monotonic()
        self._generation += 1
        self._lease.grant(None)
        self._written = None
        key = f"{LAYER}.{self._agent_id}.{self._generation}"
        try:
            write_routes(self._settings, plan, key)
        except OSError:
            log.exception("routes not written")
            return
        self._written = plan
        if plan.halted or plan.sales:
            self._lease.grant(key)
        EDGE_REFUSED_SALES_COUNT.set(len(plan.sales))
        EDGE_HALTED.set(plan.halted)
        EDGE_ROUTES_WRITTEN_TOTAL.inc()
        log.info(
            "routes written",
            refused=len(plan.sales),
            halted=plan.halted,
            files=len(plan.files),
            ms=round((time.monotonic() - start_s) * 1000, 1),
        )

    def _static_files(self) -> tuple[WebFile, ...]:
        now_s = self._clock.monotonic_s()
        if now_s >= self._list_files_next_s:
            self._list_files_next_s = now_s + FILES_S
            try:
                files = list_files(
                    self._settings.edge_web_directory, profile=self._settings.profile
                )
                self._files = of_the_public(files)
            except (OSError, ValueError) as error:
                log.warning("static files not read", why=str(error))
        return self._files
