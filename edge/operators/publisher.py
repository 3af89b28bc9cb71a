"""Keeps the operators' listener in line with the keys of their issuer and the console's files."""

import asyncio
import time

import structlog

from edge.operators.config import served
from edge.operators.listener import operator_listener
from edge.render import write_listeners
from edge.settings import EdgeSettings
from edge.web import WebFile, list_files
from seckill.runtime.jwks import is_url, parse_jwks, read_jwks

# Files, and keys in a file, are looked at this often.
TICK_S = 1.0

log = structlog.get_logger()


class ListenerPublisher:
    """Writes the listener whenever something has changed; without keys there is none."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._source = settings.order_operator_jwks
        self._keys = ""
        self._keys_next_s = float("-inf")
        self._written: tuple[str, tuple[WebFile, ...]] | None = None
        # The last complaint: it is logged once, not every second.
        self._complaint = ""

    async def run(self) -> None:
        """Run `run_once` every second until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(TICK_S)

    async def run_once(self) -> bool:
        """Write the listener if it has changed; return whether it was written."""
        try:
            await self._read_keys()
            files = list_files(
                self._settings.edge_operator_web_directory, profile=self._settings.profile
            )
            wanted = (self._keys, served(files))
            if not self._keys or wanted == self._written:
                return False
            write_listeners(self._settings, [operator_listener(self._settings, *wanted)])
        except (OSError, ValueError) as error:
            # What was written stays in force.
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.warning("operators' listener not written", why=self._complaint)
            return False
        self._written, self._complaint = wanted, ""
        log.info("operators' listener written", files=len(wanted[1]))
        return True

    async def _read_keys(self) -> None:
        """Read the keys if it is time; raises ValueError if they are none, and keeps the others."""
        if time.monotonic() < self._keys_next_s:
            return
        reload_s = self._settings.order_operator_jwks_reload_s if is_url(self._source) else TICK_S
        if self._keys:
            self._keys_next_s = time.monotonic() + reload_s
        document = await asyncio.to_thread(read_jwks, self._source)
        parse_jwks(document, allow_symmetric=self._settings.profile == "development")
        self._keys = document
