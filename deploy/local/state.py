"""What a running stack tells other processes, in `stack.json` in its directory."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deploy.local.settings import Stores

FILE_NAME = "stack.json"


@dataclass(frozen=True, kw_only=True)
class RunningProcess:
    """One child of the supervisor.

    Attributes:
        name: what people call it.
        pid: its process id.
        address: where it answers; empty when nowhere.
        log: absolute path of its log.
    """

    name: str
    pid: int
    address: str
    log: str


@dataclass(frozen=True, kw_only=True)
class StackState:
    """A stack that is ready.

    Attributes:
        supervisor_pid: whom to send SIGTERM to stop it all.
        started_at: when it became ready, ISO 8601 in UTC.
        stores: where the stores answer; holds the Postgres password, so the file is private.
        components: what the stores are, by name.
        processes: the children, in the order of starting.
    """

    supervisor_pid: int
    started_at: str
    stores: Stores
    components: dict[str, str]
    processes: tuple[RunningProcess, ...]

    def write(self, directory: Path) -> None:
        """Write the state, seen whole or not at all.

        Args:
            directory: the stack's directory.
        """
        unfinished = directory / f"{FILE_NAME}.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=2)
        unfinished.replace(directory / FILE_NAME)

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Read the state.

        Args:
            directory: the stack's directory.

        Returns:
            The state; None when there is none. It may be of a supervisor that was killed.
        """
        try:
            facts = json.loads((directory / FILE_NAME).read_text())
        except FileNotFoundError:
            return None
        facts["stores"] = Stores(**facts["stores"])
        facts["processes"] = tuple(RunningProcess(**process) for process in facts["processes"])
        return cls(**facts)


def forget_state(directory: Path) -> None:
    """Remove the state file, if there is one.

    Args:
        directory: the stack's directory.
    """
    (directory / FILE_NAME).unlink(missing_ok=True)
