"""Keeps the file of the operators' log from growing for ever."""

import asyncio
from pathlib import Path

import structlog

from edge.draining import ask
from edge.operators.log import LOG_FILE, older_log_path

# Some ten thousand calls; as many stay in the older file.
FILE_BYTES_MAX = 8 * 1024 * 1024
LOOK_S = 60.0
REOPEN = "POST /reopen_logs"

log = structlog.get_logger()


class LogRotation:
    """Puts the file aside when it is full, and has Envoy start another one."""

    def __init__(self, directory: Path, *, bytes_max: int = FILE_BYTES_MAX) -> None:
        """`directory`: of the edge."""
        self._directory = directory
        self._path = directory / LOG_FILE
        self._bytes_max = bytes_max

    async def run(self) -> None:
        """Run `run_once` every minute until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(LOOK_S)

    async def run_once(self) -> bool:
        """Put the file aside if it is full; return whether it was."""
        try:
            if self._path.stat().st_size < self._bytes_max:
                return False
            # The one before it goes: its lines are on standard output.
            self._path.replace(older_log_path(self._path))
        except FileNotFoundError:
            return False
        if await ask(self._directory, REOPEN) is None:
            log.warning("operators' log not reopened: envoy does not answer")
        return True
