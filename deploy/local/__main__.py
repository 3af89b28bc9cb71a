"""Run a stack in the foreground until SIGTERM or Ctrl-C: `python -m deploy.local`."""

import argparse
import pkgutil
import sys
from collections.abc import Sequence

from deploy.local.errors import StackError
from deploy.local.stack import LocalStack
from deploy.local.state import StackState
from deploy.local.supervisor import Services, Supervisor, no_services


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack.

    Args:
        arguments: the command line; None takes this process's.

    Returns:
        The exit code: 0 after having been asked to stop, 1 after a failure told in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument(
        "--services",
        default="",
        metavar="MODULE:FUNCTION",
        help="function from Stores to a sequence of ProcessSpec: what to run besides the stores",
    )
    name: str = parser.parse_args(arguments).services
    try:
        services: Services = pkgutil.resolve_name(name) if name else no_services
        Supervisor(LocalStack(), services=services).run(on_ready=_announce)
    except StackError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _announce(state: StackState) -> None:
    for process in state.processes:
        sys.stdout.write(f"{process.name}: {process.address} (log: {process.log})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
