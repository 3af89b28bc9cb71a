"""How tables look: what identifies a row is never cut, whatever the terminal's width."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

# Where output goes to a file or another program, nothing is cut at all.
PIPE_WIDTH = 240


def console() -> Console:
    """A console as wide as the terminal, or wide enough for everything where there is none."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=PIPE_WIDTH)


def table(whole: Sequence[str], others: Sequence[str]) -> Table:
    """A table whose columns `whole` are never cut; `others` fold where there is no room."""
    plain = Table(box=None, pad_edge=False, header_style="dim")
    for name in whole:
        plain.add_column(name, no_wrap=True)
    for name in others:
        plain.add_column(name, overflow="fold")
    return plain
