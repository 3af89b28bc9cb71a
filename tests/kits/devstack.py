"""Stacks of one test, and the processes they leave or do not leave behind."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from devstack import LocalSettings, Stores

ROOT = Path(__file__).parents[2]
WAIT_TIMEOUT_S = 30.0


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def wait_until_ended(processes: Iterable[psutil.Process]) -> None:
    """Wait for the end of processes, for a bounded time."""
    _, left = psutil.wait_procs(list(processes), timeout=WAIT_TIMEOUT_S)
    assert not any(is_running(process.pid) for process in left)


def only_valkey(directory: Path) -> LocalSettings:
    """Settings of a stack that starts Valkey alone: two stores are given from outside.

    They are never reached by what is tested with it: the stack waits for them in vain.
    """
    return LocalSettings(
        directory=directory,
        postgres_dsn="postgresql://nobody@127.0.0.1:1/none",
        kafka_bootstrap="127.0.0.1:1",
    )


def environment_of_given_stores(
    stores: Stores, directory: Path, *, modules: Path | None = None
) -> Mapping[str, str]:
    """The environment of a stack that starts no store: it is ready within a second.

    Args:
        directory: the stack's.
        modules: folder of further Python modules.
    """
    return {
        **os.environ,
        "SECKILL_LOCAL_DIR": str(directory),
        "SECKILL_POSTGRES_DSN": stores.postgres_dsn,
        "SECKILL_REDIS_URL": stores.redis_url,
        "SECKILL_KAFKA_BOOTSTRAP": stores.kafka_bootstrap,
        "PYTHONPATH": str(modules or ""),
    }


def write_services(folder: Path, *specs: str) -> str:
    """Write a module whose function returns services with these `ProcessSpec` expressions.

    The expressions may use `sys`, `Path`, `HERE` (the folder) and `stores`.

    Returns:
        Its name, for `start_background`; `folder` must be on PYTHONPATH.
    """
    lines = [
        "import sys",
        "from pathlib import Path",
        "from devstack import ProcessSpec, Services",
        "HERE = Path(__file__).parent",
        "def services():",
        f"    return Services(specs=lambda stores, ports: [{', '.join(specs)}])",
    ]
    (folder / "extra_services.py").write_text("\n".join(lines))
    return "extra_services:services"
