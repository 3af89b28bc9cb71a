"""Text from outside is shown as text."""

import io

import pytest

from seckill_cli import display


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("50% off [/b] today", "50% off [/b] today"),
        ("秒杀 ünïcode 🎉", "秒杀 ünïcode 🎉"),
        ("\x1b[2J\x9b2J", r"\x1b[2J\x9b2J"),
        ("one\ntwo\r\ttab\x00", r"one\ntwo\r\ttab\x00"),
        ("left \u202e right\u2028", r"left \u202e right\u2028"),
        ("half \udcff", r"half \udcff"),
    ],
)
def test_control_characters_are_shown_escaped_and_the_rest_as_it_is(text: str, seen: str) -> None:
    """Escape sequences, line ends, changes of writing direction."""
    assert display.shown(text) == seen


def test_tables_and_messages_have_no_markup() -> None:
    """Neither in a cell nor in a line."""
    console = display.console()
    console.file = io.StringIO()
    rows = display.table(("buyer",), ("title",))
    rows.add_text("[/x]", "[bold]:smile:[/b]\n\x1b[31m")
    console.print(rows)
    console.print("[red]no[/]")
    printed = console.file.getvalue()
    assert "[/x]" in printed
    assert r"[bold]:smile:[/b]\n\x1b[31m" in printed
    assert "[red]no[/]" in printed
