"""Documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
# Made by a build, a run or a release.
MADE = (".venv/", ".tools/", ".seckill/", "build/", "dist/")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name: str) -> None:
    """Relative links, without their anchors."""
    document = ROOT / name
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if not link.startswith(("http:", "https:")):
            assert (document.parent / link).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_code_style_exist(name: str) -> None:
    """`gateway/sales.py` and the like: a move is noticed."""
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", (ROOT / name).read_text()):
        if path.partition("/")[0] in FOLDERS and not path.startswith(MADE):
            assert (ROOT / path).exists(), path
