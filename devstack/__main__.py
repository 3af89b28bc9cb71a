"""Run a stack in the foreground until SIGTERM or Ctrl-C: `python -m devstack`."""

import argparse
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence

from devstack.background import write_report
from devstack.errors import StackError
from devstack.state import StackState
from devstack.supervisor import Services, Supervisor, no_services


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack.

    Args:
        arguments: the command line; None takes this process's.

    Returns:
        The exit code: 0 after having been asked to stop, 1 after a failure.
    """
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    parser.add_argument(
        "--services",
        default="",
        metavar="MODULE:FUNCTION",
        help="function that returns devstack.supervisor.Services: what to run besides the stores",
    )
    parser.add_argument("--report-to", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    # One report is all that is sent: what goes wrong later stands in the log.
    reports: list[int] = [] if given.report_to is None else [given.report_to]

    def on_ready(state: StackState) -> None:
        _announce(state)
        if reports:
            write_report(reports.pop())

    try:
        plan: Callable[[], Services] = no_services
        if given.services:
            plan = pkgutil.resolve_name(given.services)
        Supervisor(plan()).run(on_ready=on_ready)
        if reports:
            write_report(reports.pop(), ["the stack was stopped before it was ready"])
    except Exception as error:  # noqa: BLE001 - the caller gets a line, the log the rest
        if not isinstance(error, StackError):
            traceback.print_exc()
            error = StackError(f"{type(error).__name__}: {error}")
        sys.stderr.writelines(f"error: {problem}\n" for problem in error.problems)
        if reports:
            write_report(reports.pop(), error.problems)
        return 1
    return 0


def _announce(state: StackState) -> None:
    for process in state.processes:
        sys.stdout.write(f"{process.name}: {process.address} (log: {process.log})\n")
    sys.stdout.writelines(f"{note}\n" for note in state.notes)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
