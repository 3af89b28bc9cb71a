"""The planted bug that the environment names: services of a test are started with it."""

import os
from collections.abc import Mapping, Sequence

# Names the bug that a test process and its services run with; empty or unset: none.
VARIABLE = "SECKILL_TEST_SABOTAGE"
# Plants a bug, then becomes the service.
RUNNER = "campaigns.sabotage.run"


def chosen(env: Mapping[str, str] = os.environ) -> str:
    """Return the name of the bug that the environment asks for, or ""."""
    return env.get(VARIABLE, "")


def command_with(command: Sequence[str], bug: str) -> list[str]:
    """Return the command that starts a service with `bug`; "" changes nothing."""
    if not bug:
        return list(command)
    python, _, module = command
    return [python, "-m", RUNNER, bug, module]
