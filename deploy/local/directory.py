"""Data directories: writable, with room on the disk, and held by one process at a time."""

import fcntl
import os
import shutil
from pathlib import Path

from deploy.local.errors import StackError

FREE_MIB_MIN = 500
_MIB = 1024 * 1024


def prepare_directory(directory: Path) -> None:
    """Create a data directory and check that servers can live in it.

    Args:
        directory: the directory; parents are created.

    Raises:
        StackError: it cannot be created or written, or too little disk is free.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"cannot create {directory} ({error.strerror}):"
            " make its parent writable, or choose another place with SECKILL_LOCAL_DIR"
        ) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StackError(
            f"no permission to write in {directory}:"
            " give it to this user (chown), or choose another place with SECKILL_LOCAL_DIR"
        )
    require_free_disk(directory)


def require_free_disk(directory: Path, *, variable: str = "SECKILL_LOCAL_DIR") -> None:
    """Check that a directory's disk has room.

    Args:
        directory: an existing directory.
        variable: the environment variable that chooses another place, for the message.

    Raises:
        StackError: less than `FREE_MIB_MIN` MiB are free.
    """
    free_mib = shutil.disk_usage(directory).free // _MIB
    if free_mib < FREE_MIB_MIN:
        raise StackError(
            f"only {free_mib} MiB are free on the disk of {directory}, {FREE_MIB_MIN} are needed:"
            f" free some, or choose another disk with {variable}"
        )


STACK = "local stack"


class DirectoryLock:
    """One process's claim on a directory; the kernel drops it when the process ends."""

    def __init__(self, directory: Path, *, claimed_by: str) -> None:
        """Describe the claim.

        Args:
            directory: an existing directory after `prepare_directory`.
            claimed_by: what is run there, for the message.
        """
        self._path = directory / ".lock"
        self._claimed_by = claimed_by
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the claim."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the claim; taking it twice is taking it once.

        Raises:
            StackError: another process holds it, or the lock file cannot be opened.
        """
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackError(
                f"cannot open {self._path} ({error.strerror}):"
                " give the directory to this user (chown)"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StackError(
                f"another {self._claimed_by} already runs in {self._path.parent} (process"
                f" {holder}): stop it first, or choose another place with SECKILL_LOCAL_DIR"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    def holder_pid(self) -> int | None:
        """Which process holds the claim, this one or another.

        Returns:
            Its process id; None when nobody does.
        """
        if self.held:
            return os.getpid()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # Empty for the instant between its taking the claim and writing its id.
            return int(os.pread(descriptor, 32, 0).strip() or 0) or None
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Give the claim back; without one nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
