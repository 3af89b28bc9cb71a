"""What a running stack tells other processes, in `stack.json` in its directory."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from devstack.directory import unusable
from devstack.errors import StackError
from devstack.settings import Stores

FILE_NAME = "stack.json"


@dataclass(frozen=True, kw_only=True)
class RunningProcess:
    """One child of the supervisor.

    Attributes:
        name: what people call it.
        pid: its process id.
        address: where it answers; empty when nowhere.
        log: absolute path of its log.
        metrics: where its metrics are, host:port; empty when nowhere.
        operators: where it answers operators, host:port; empty when nowhere.
    """

    name: str
    pid: int
    address: str
    log: str
    metrics: str = ""
    operators: str = ""


@dataclass(frozen=True, kw_only=True)
class StackState:
    """A stack that is ready.

    Attributes:
        supervisor_pid: the process that stops everything when it gets SIGTERM.
        started_at: when it became ready, ISO 8601 in UTC.
        stores: where the stores answer; holds the Postgres password, so the file is private.
        components: what the stores are, by name.
        processes: the children, in the order of starting.
        notes: a line for each thing that differs from what the documentation says.
        certificates: folder of the stages' certificates; empty if services speak in clear.
    """

    supervisor_pid: int
    started_at: str
    stores: Stores
    components: dict[str, str]
    processes: tuple[RunningProcess, ...]
    notes: tuple[str, ...] = ()
    certificates: str = ""

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

        Raises:
            StackError: the file cannot be read, or another version has written it.
        """
        path = directory / FILE_NAME
        try:
            facts = json.loads(path.read_text())
            facts["stores"] = Stores(**facts["stores"])
            facts["processes"] = tuple(RunningProcess(**process) for process in facts["processes"])
            facts["notes"] = tuple(facts["notes"])
            return cls(**facts)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unusable(path, error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise StackError(
                f"{path} is not what this version of the local stack writes:"
                " run `seckill down`, then `seckill up`"
            ) from error


def forget_state(directory: Path) -> None:
    """Remove the state file, if there is one.

    Args:
        directory: the stack's directory.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        (directory / FILE_NAME).unlink()
