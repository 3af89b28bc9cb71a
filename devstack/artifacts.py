"""Kafka's jars: pinned by version and sha256, fetched once a user, shared by all checkouts."""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.deadline import POLL_INTERVAL_S, Deadline
from devstack.directory import require_free_disk
from devstack.errors import StackError

LOCK_PATH = Path(__file__).with_name("kafka.lock")
FETCH_TIMEOUT_S = 300.0
_TRIES_MAX = 3
# A registry is a shared good; four at a time already fill a home connection.
_PARALLEL_MAX = 4
_MARKER = "complete"


@dataclass(frozen=True)
class LockedJar:
    """One line of the lock: `group:artifact:version sha256`."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The jar's name on the class path."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock() -> tuple[LockedJar, ...]:
    """Read the committed lock.

    Returns:
        The jars in class path order; the broker's first.
    """
    jars = []
    for line in LOCK_PATH.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(LockedJar(group, artifact, version, sha256))
    return tuple(jars)


def kafka_version() -> str:
    """The pinned version of Apache Kafka, e.g. "4.3.0"."""
    return read_lock()[0].version


def cache_root() -> Path:
    """Return the folder of fetched files: SECKILL_CACHE_DIR, or `seckill` in the user's cache."""
    chosen = os.environ.get("SECKILL_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "seckill"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "seckill"


def jar_directory() -> Path:
    """Return the folder of this lock's jars; it may not exist yet."""
    return cache_root() / f"kafka-{kafka_version()}"


def jars_present() -> bool:
    """Tell whether exactly the locked jars have been fetched and verified."""
    try:
        return (jar_directory() / _MARKER).read_text() == _lock_digest()
    except OSError:
        return False


def fetch_jars() -> None:
    """Fetch what the lock names, verify it, put it in place; two processes may try at once.

    Raises:
        StackError: no room, no permission, no network, or a jar that is not the locked one.
    """
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _exclusive(root / "kafka.fetch.lock"):
            if not jars_present():
                _fill(root)
    except OSError as error:
        raise StackError(
            f"cannot write Kafka's jars to {root} ({error.strerror or error}):"
            " make it writable, or choose another place with SECKILL_CACHE_DIR"
        ) from error


def _fill(root: Path) -> None:
    require_free_disk(root, variable="SECKILL_CACHE_DIR")
    target = jar_directory()
    # The lock is ours, so whatever lies here is of a fetch that was cut off.
    unfinished = root / f"{target.name}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with ThreadPoolExecutor(_PARALLEL_MAX) as pool:
        for _ in pool.map(lambda jar: _fetch(jar, unfinished), read_lock()):
            pass
    shutil.rmtree(unfinished / "repository")
    (unfinished / _MARKER).write_text(_lock_digest())
    # Seen whole or not at all.
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _fetch(jar: LockedJar, directory: Path) -> None:
    import requests  # noqa: PLC0415 - both are slow to import, and wanted only here
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    repository = directory / "repository"
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=60)
    # Mirrors that the user has told jgo about come first.
    context.remote_repos = {**GlobalSettings.load().repositories, **context.remote_repos}
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    problem = ""
    for _ in range(_TRIES_MAX):
        try:
            path = artifact.resolve()
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found == jar.sha256:
                path.rename(directory / jar.file_name)
                return
            problem = f"sha256 is {found}, locked is {jar.sha256}"
        except (requests.RequestException, RuntimeError) as error:
            problem = type(error).__name__
        # What was cut off or is wrong must not be taken for the jar.
        (repository / artifact.component.path_prefix / artifact.filename).unlink(missing_ok=True)
    raise StackError(
        f"cannot download Kafka's {jar.file_name} ({problem}): check the network and proxy"
        " settings, or give SECKILL_KAFKA_BOOTSTRAP the address of a Kafka of your own"
    )


def _lock_digest() -> str:
    return hashlib.sha256(LOCK_PATH.read_bytes()).hexdigest()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    deadline = Deadline(FETCH_TIMEOUT_S)
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.passed:
                    raise StackError(
                        f"another process has been filling {path.parent} for"
                        f" {FETCH_TIMEOUT_S:.0f} s: end it and try again"
                    ) from None
                time.sleep(POLL_INTERVAL_S)
        yield


def main() -> None:
    """Fill the cache; one line on standard error says what went wrong."""
    try:
        fetch_jars()
    except StackError as error:
        sys.exit(f"FATAL: {error}")
