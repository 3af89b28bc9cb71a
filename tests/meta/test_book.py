"""The book has every document, and what its pages lead to; `make docs` builds it strictly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.book import ROOT, pages


class _Loader(yaml.SafeLoader):
    """Takes mkdocs' names of functions as text."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda _, suffix, __: suffix)


def _listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from _listed(entry)


def test_every_document_is_listed_and_every_entry_exists() -> None:
    """A new page of docs/ has a place; only decisions are reached by their own list."""
    site = yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)  # noqa: S506 - a safe loader
    listed = set(_listed(site["nav"]))
    documents = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "docs").rglob("*.md")
        if path.parent.name != "adr" or path.name == "README.md"
    }
    assert documents <= listed
    assert all((ROOT / name).exists() for name in listed)


def test_what_pages_lead_to_is_in_the_book() -> None:
    """Other documents, pictures, files of the repository; nothing from outside of it."""
    found = {path.relative_to(ROOT) for path in pages()}
    for name in (
        "docs/img/architecture.svg",
        "docs/adr/0035-a-topic-has-one-mesh.md",
        "deploy/k8s/examples/kafka.yaml",
        "deploy/stores/users.acl",
        "examples/shop/shop.py",
        "bench/results/latest.md",
    ):
        assert Path(name) in found
