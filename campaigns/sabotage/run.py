"""`python -m campaigns.sabotage.run BUG MODULE [ARGUMENT…]`: run a service, or pytest, with a bug.

Only the test tree knows of bugs: a service has no switch for them.
"""

import runpy
import sys
from collections.abc import Sequence

from campaigns.sabotage.edits import install
from campaigns.sabotage.registry import find


def main(arguments: Sequence[str]) -> None:
    """Plant the bug, then run the module as the main program."""
    bug, module, *rest = arguments
    install(find(bug))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
