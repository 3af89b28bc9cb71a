"""Data directories: writable, with room on the disk, and held by one process at a time."""

import fcntl
import os
import shutil
from pathlib import Path

from devstack.errors import StackError

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
        in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        remedy = "move away the file in its place" if in_the_way else "make its parent writable"
        raise StackError(
            f"cannot create {directory} ({error.strerror}):"
            f" {remedy}, or choose another place with SECKILL_LOCAL_DIR"
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


def unusable(path: Path, error: OSError) -> StackError:
    """Return the one line about a file of the stack that cannot be read or written."""
    return StackError(
        f"cannot use {error.filename or path} ({error.strerror}): give the directory to this user"
        " (chown -R) and make room on its disk, or choose another place with SECKILL_LOCAL_DIR"
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
            raise unusable(self._path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder_pid = _written_pid(descriptor)
            os.close(descriptor)
            raise self._taken(holder_pid) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    def require_free(self) -> None:
        """Check that no other process holds the claim.

        Raises:
            StackError: one does, or the lock file cannot be opened.
        """
        holder_pid = self.holder_pid()
        if not self.held and holder_pid is not None:
            raise self._taken(holder_pid)

    def holder_pid(self) -> int | None:
        """Return the id of the process that holds the claim, this one or another.

        None if it is free, or taken a moment ago by a process that has not written its id yet.

        Raises:
            StackError: the lock file cannot be opened.
        """
        if self.held:
            return os.getpid()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unusable(self._path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _written_pid(descriptor)
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Give the claim back; without one nothing happens."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _taken(self, holder_pid: int | None) -> StackError:
        return StackError(
            f"another {self._claimed_by} already runs in {self._path.parent} (process"
            f" {holder_pid or 'unknown'}): stop it first, or choose another place with"
            " SECKILL_LOCAL_DIR"
        )


def _written_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
