"""Makes what pages are made of smaller: comments, indentation and spaces that mean nothing go.

It reads lines, not languages, and relies on how the sources are written: a comment has its lines to
itself or is a type, and no text of a script spans lines. Names stay as they are.
"""

import json
import re
from collections.abc import Iterator

# A type in the middle of a line: /** @type {any} */
TYPE = re.compile(r"/\*\* @[^*]*\*/ ?")
# What is in quotes stays as it is, whatever it looks like.
QUOTED = re.compile(r'("(?:\\.|[^"\\])*"|`[^`]*`)')
# Where a script's spaces mean nothing. Not around + and -, which may not meet themselves.
SCRIPT_SPACES = re.compile(r"\s*([=*,<>?:&|(){};])\s*")
# Where a style's do not: behind these, and before a brace.
STYLE_SPACES = re.compile(r"([{};,]|: )\s*")
BEFORE_BRACE = re.compile(r"\s+{")


def compact(text: str, suffix: str) -> str:
    """Return a script, a style or JSON without what only its authors need; others as they are.

    Raises:
        ValueError: a script has a text that spans lines.
    """
    if suffix == ".js":
        return "\n".join(_tight_script(line) for line in _code_lines(text)) + "\n"
    if suffix == ".css":
        joined = BEFORE_BRACE.sub("{", " ".join(_code_lines(text)))
        return STYLE_SPACES.sub(lambda found: found[1].strip(), joined).replace(";}", "}")
    if suffix == ".json":
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    return text


def _code_lines(text: str) -> Iterator[str]:
    in_comment = False
    for number, line in enumerate(text.splitlines(), 1):
        code = line.strip()
        if in_comment or (code.startswith("/*") and TYPE.match(code) is None):
            in_comment = not code.endswith("*/")
        elif code and not code.startswith("//"):
            if code.count("`") % 2:
                raise ValueError(f"line {number}: a text must not span lines: {code}")
            yield code


def _tight_script(line: str) -> str:
    parts = QUOTED.split(TYPE.sub("", line))
    # Every second part is in quotes.
    return "".join(
        part if place % 2 else SCRIPT_SPACES.sub(r"\1", part) for place, part in enumerate(parts)
    )
