"""Checks the notes that operators leave."""

from seckill.validation import Violations

NOTE_CHARACTERS_MAX = 500


def check_note(note: str) -> None:
    """Raise InvalidField unless this has 1 to 500 characters, none a control character."""
    violations = Violations()
    violations.text("note", note, NOTE_CHARACTERS_MAX)
    if not note.strip():
        violations.add("note", "must say why")
    violations.check()
