"""Planted bugs: edits of the project's own files as one process sees them, nothing on disk.

A bug is written down as what a careless commit would change: a text of a file, and what stands
there instead. An edit whose text is not there, or there twice, is an error: a bug that no longer
fits the code would be planted in vain and "caught" by nobody noticing.
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

ROOT = Path(__file__).parents[3]


class SabotageStale(Exception):
    """A planted bug does not fit the code any more."""


@dataclass(frozen=True)
class Edit:
    """One place that a bug changes.

    Attributes:
        path: the file, from the repository's root.
        old: text that stands there exactly once.
        new: what stands there instead.
    """

    path: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The file's text with the bug; raises SabotageStale."""
        count = text.count(self.old)
        if count != 1:
            raise SabotageStale(f"{self.path} has {self.old!r} {count} times instead of once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """A planted bug, or a mechanism switched off.

    Attributes:
        name: what one asks for it by.
        says: what is wrong then, in a sentence.
        edits: where.
    """

    name: str
    says: str
    edits: tuple[Edit, ...]

    def files(self) -> dict[Path, str]:
        """Each file that it changes, with its text as changed; raises SabotageStale."""
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = ROOT / edit.path
            texts[path] = edit.apply(texts.get(path) or path.read_text(encoding="utf-8"))
        return texts


def install(sabotage: Sabotage) -> None:
    """Plant a bug in this process, before it imports any of the files concerned.

    Raises:
        SabotageStale: it does not fit, or comes too late.
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
    """Compiles a text that is not the file's; never the file's cached bytecode."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return compile(self._text, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the changed modules, and leaves all others to those who come after it."""

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
    """Let scripts and statements be read with the bug: stages read them by `Path.read_text`."""
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
