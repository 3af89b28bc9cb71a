"""Makes what pages are made of smaller: comments, indentation and spaces that mean nothing go.

It reads lines, not languages, and relies on how the sources are written: a comment has its lines to
itself or is a type, and no text of a script spans lines. Names stay as they are.
"""

import json
import re
from collections.abc import Iterator

# A type in the middle of a line: /** @type {any} */
TYPE = re.compile(r"/\*\* @[^*]*\*/ ?")
# What is in quotes stays as it is, whatever it looks like; so does a pattern, /(a|b)? c/g: a slash
# that no value stands before.
_PART = r"(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[])"
QUOTED = re.compile(
    r"""("(?:\\.|[^"\\])*"|`[^`]*`"""
    rf"""|(?:(?<=[=(,:!&|?]\s)|(?<=[(,!\[]))/(?!\*){_PART}+/[a-z]*)"""
)
# Where a script's spaces mean nothing. Around + and - they do not between values alone: the two may
# not meet each other.
SCRIPT_SPACES = re.compile(r"\s*([=*,<>?:&|(){};!%\[\]])\s*")
SUM_SPACES = re.compile(r"(?<=[\w)\]]) ([-+]) (?=[\w(])")
# Where a style's do not: behind these, and before a brace.
STYLE_SPACES = re.compile(r"([{};,]|: )\s*")
# Behind these a script's next line needs no line of its own.
GOES_ON = ("{", "(", "[", ",", ";")
BEFORE_BRACE = re.compile(r"\s+{")


def compact(text: str, suffix: str) -> str:
    """Return a script, a style or JSON without what only its authors need; others as they are.

    Raises:
        ValueError: a script has a text that spans lines.
    """
    if suffix == ".js":
        lines = (_tight_script(line) for line in _code_lines(text))
        return "".join(line if line.endswith(GOES_ON) else f"{line}\n" for line in lines)
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
    # Every second part is in quotes, and needs no space before it.
    last = len(parts) - 1
    return "".join(
        part if place % 2 else _tight_code(part, before_quote=place < last)
        for place, part in enumerate(parts)
    )


def _tight_code(code: str, *, before_quote: bool) -> str:
    tight = SCRIPT_SPACES.sub(r"\1", SUM_SPACES.sub(r"\1", code))
    return tight.rstrip() if before_quote else tight
