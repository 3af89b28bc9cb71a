"""Gather the pages of the book into build/book: `python -m tools.book`, then `mkdocs build`.

The documents link to each other, and to files beside them, as they lie in the repository. So the
book is a copy of those parts of it that its pages lead to.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "build" / "book"
FIRST = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
# A link or a picture in Markdown: its target without the anchor.
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> Iterator[Path]:
    """Return the files of the repository that a page links to, outside of its examples."""
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        target = (page.parent / link).resolve()
        if "://" not in link and target.is_file() and target.is_relative_to(ROOT):
            yield target


def pages() -> Iterator[Path]:
    """Return every file of the book: the documents, and what can be reached from them."""
    waiting = [*(ROOT / name for name in FIRST), *sorted((ROOT / "docs").rglob("*.*"))]
    seen: set[Path] = set()
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        yield page
        if page.suffix == ".md":
            waiting += links_of(page)


def main() -> None:
    """Copy them, in place of what was gathered before."""
    shutil.rmtree(BOOK, ignore_errors=True)
    for page in pages():
        copy = BOOK / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, copy)


if __name__ == "__main__":
    main()
