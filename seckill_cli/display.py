"""How output looks: text from outside is text, and what identifies a row is never cut."""

import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

# If output goes to a file or another program, nothing is cut at all.
PIPE_WIDTH = 240
# Control and format characters (escape sequences, line ends, changes of writing direction) and
# halves of surrogate pairs.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for everything without one.

    It prints strings as they are: no markup, no emoji codes, no highlighting.
    """
    screen = Console(markup=False, emoji=False, highlight=False)
    if screen.is_terminal:
        return screen
    return Console(markup=False, emoji=False, highlight=False, width=PIPE_WIDTH)


def shown(text: str) -> str:
    r"""Return the text with its control characters escaped, e.g. "\x1b" as four characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) in _UNSHOWN else char for char in text
    )


class TextTable(Table):
    """A table whose cells may come from outside."""

    def add_text(self, *cells: str) -> None:
        """Add a row of plain text."""
        self.add_row(*map(shown, cells))


def table(whole: Sequence[str], others: Sequence[str]) -> TextTable:
    """Return a table whose columns `whole` are never cut; `others` fold if there is no room."""
    plain = TextTable(box=None, pad_edge=False, header_style="dim")
    for name in whole:
        plain.add_column(name, no_wrap=True)
    for name in others:
        plain.add_column(name, overflow="fold")
    return plain
