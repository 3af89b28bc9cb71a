"""`python -m tests.faults.sabotaged BUG MODULE`: run a stage with a planted bug.

Only the test tree knows of bugs: a stage has no switch for them.
"""

import runpy
import sys
from collections.abc import Sequence

from tests.faults.sabotage.edits import install
from tests.faults.sabotage.registry import find


def command_with(command: Sequence[str], bug: str) -> list[str]:
    """How to start a stage with `bug`, from how it is started without; "" changes nothing."""
    if not bug:
        return list(command)
    python, _, module = command
    return [python, "-m", "tests.faults.sabotaged", bug, module]


def main(arguments: Sequence[str]) -> None:
    """Plant the bug, then become the module."""
    bug, module = arguments
    install(find(bug))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
