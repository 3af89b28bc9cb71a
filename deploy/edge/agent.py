"""The agent's judgement: what Envoy shall refuse now, put into routes and granted by a lease."""

import asyncio
import secrets
import time

import structlog

from deploy.edge.lease import Lease
from deploy.edge.lease_name import LAYER
from deploy.edge.metrics import HALTED, REFUSED_SALES, ROUTES_WRITTEN
from deploy.edge.refusals import Patterns, Wanted, decide
from deploy.edge.render import write_routes
from deploy.edge.settings import EdgeSettings
from deploy.edge.web import WebFile, list_files
from seckill.clock import Clock
from seckill.sale_view import SaleView, apply_changes
from seckill.v1 import inventory_pb2

# Windows begin and end without a message.
TICK_S = 0.1
# Static files are looked at this often.
FILES_S = 1.0

log = structlog.get_logger()


class Agent:
    """Keeps routes and lease in line with what inventory tells."""

    def __init__(self, settings: EdgeSettings, lease: Lease, *, clock: Clock) -> None:
        self._settings = settings
        self._lease = lease
        self._clock = clock
        self._views: dict[str, SaleView] = {}
        # The kill switch as told.
        self._halted = False
        # Monotonic; None while there is no stream.
        self._told_s: float | None = None
        self._patterns = Patterns()
        self._changed = asyncio.Event()
        # In each key, so that routes left behind by another life of this agent are never granted.
        self._life = secrets.token_hex(8)
        self._generation = 0
        self._written: Wanted | None = None
        self._files: tuple[WebFile, ...] = ()
        self._files_again_s = float("-inf")

    def apply(self, message: inventory_pb2.WatchSalesResponse) -> None:
        """Take in a message of the stream."""
        if message.complete:
            log.info("sales stream is up")
        self._views = apply_changes(self._views, message)
        if message.HasField("kill_switch"):
            self._halted = message.kill_switch.on
        self._told_s = self._clock.monotonic_s()
        if message.ByteSize():
            self._changed.set()

    def broken(self) -> None:
        """The stream has ended: whatever it told is not believed any more."""
        self._told_s = None
        self._changed.set()

    async def run(self) -> None:
        """Keep everything in line, for ever."""
        while True:
            self.run_once()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def run_once(self) -> Wanted:
        """Bring routes and lease in line; returns what they are made of."""
        self._changed.clear()
        believed = self._believed()
        halted = believed and self._halted
        views = self._views if believed and not halted else {}
        sales = decide(views, self._settings, self._patterns, now_s=self._clock.now_s())
        wanted = Wanted(files=self._static_files(), halted=halted, sales=sales)
        if wanted != self._written:
            self._write(wanted)
        return wanted

    def _believed(self) -> bool:
        """Whether what was told still counts: not without a stream, nor if it was too long ago."""
        if self._told_s is None:
            return False
        age_s = self._clock.monotonic_s() - self._told_s
        return age_s < self._settings.edge_flags_believed_s

    def _write(self, wanted: Wanted) -> None:
        """Take the old lease back, then put the routes in place, then grant theirs.

        Where the routes cannot be written there is no lease until they can.
        """
        begun_s = time.monotonic()
        self._generation += 1
        self._lease.grant(None)
        self._written = None
        key = f"{LAYER}.{self._life}.{self._generation}"
        try:
            write_routes(self._settings, wanted, key)
        except OSError:
            log.exception("routes not written")
            return
        self._written = wanted
        if wanted.halted or wanted.sales:
            self._lease.grant(key)
        REFUSED_SALES.set(len(wanted.sales))
        HALTED.set(wanted.halted)
        ROUTES_WRITTEN.inc()
        log.info(
            "routes written",
            refused=len(wanted.sales),
            halted=wanted.halted,
            files=len(wanted.files),
            ms=round((time.monotonic() - begun_s) * 1000, 1),
        )

    def _static_files(self) -> tuple[WebFile, ...]:
        now_s = self._clock.monotonic_s()
        if now_s >= self._files_again_s:
            self._files_again_s = now_s + FILES_S
            try:
                self._files = list_files(self._settings.edge_web_directory)
            except (OSError, ValueError) as error:
                log.warning("static files not read", why=str(error))
        return self._files
