"""Planted bugs: edits of the project's own files as one process sees them, nothing on disk.

A bug is what a careless commit would change: a text of a file, and what stands there instead. An
edit whose text is not there exactly once is an error: a bug that no longer fits the code would be
planted in vain, and no test would notice.
"""

import importlib.machinery
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


class SabotageStale(Exception):
    """A planted bug does not fit the code any more."""


@dataclass(frozen=True)
class Edit:
    """One place that a bug changes.

    Attributes:
        path: the file, from the repository's root.
        old: a text that is in it exactly once.
        new: what replaces it.
    """

    path: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Return the file's text with the bug; raises SabotageStale."""
        count = text.count(self.old)
        if count != 1:
            raise SabotageStale(f"{self.path} has {self.old!r} {count} times instead of once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """A planted bug, or a mechanism switched off.

    Attributes:
        name: by which it is planted.
        says: what is wrong then, in a sentence.
        edits: the places that it changes.
    """

    name: str
    says: str
    edits: tuple[Edit, ...]

    def files(self) -> dict[Path, str]:
        """Return each file that it changes, with its new text; raises SabotageStale."""
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = ROOT / edit.path
            texts[path] = edit.apply(texts.get(path) or path.read_text(encoding="utf-8"))
        return texts


def install(sabotage: Sabotage) -> None:
    """Plant a bug in this process, before it imports any of the files that the bug changes.

    Raises:
        SabotageStale: it does not fit the code, or one of the files has been imported.
    """
    modules: dict[str, str] = {}
    for path, text in sabotage.files().items():
        if path.suffix == ".py":
            modules[".".join(path.relative_to(ROOT).with_suffix("").parts)] = text
    late = sorted(modules.keys() & sys.modules.keys())
    if late:
        raise SabotageStale(f"{', '.join(late)} had been imported when {sabotage.name} came")
    sys.meta_path.insert(0, _Finder(modules))
    _change_reads([edit for edit in sabotage.edits if not edit.path.endswith(".py")])


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a changed text in place of the file's, and ignores cached bytecode."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the changed modules; the other finders find all others."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        text = self._texts.get(fullname)
        if text is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            raise SabotageStale(f"there is no module {fullname}")
        spec.loader = _Loader(fullname, spec.origin, text)
        return spec


def _change_reads(edits: Sequence[Edit]) -> None:
    """Plant a bug in scripts and statements, which services read by `Path.read_text`."""
    by_path: dict[Path, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_path[ROOT / edit.path].append(edit)
    read_text = Path.read_text

    def read(self: Path, *args: Any, **options: Any) -> str:
        text = read_text(self, *args, **options)
        for edit in by_path.get(self, ()):
            text = edit.apply(text)
        return text

    Path.read_text = read  # type: ignore[method-assign]
