"""Builds the pages of web/ into a folder that the edge serves: `python -m edge.pages FOLDER`.

There is little to do, as browsers read the sources as they are. Each script, style, picture and
text loses its comments and gets a name with a hash of its content, so that caches may keep it for
good; pages keep theirs and name those. Pages also list all scripts that they will need, so that a
browser fetches them at once.
With `--development` there is a sign-in without a password besides, and with a development issuer in
the environment (SECKILL_GATEWAY_JWKS) its keys.
"""

import argparse
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from edge import development_keys
from edge.compact import compact
from edge.web import DEVELOPMENT, HASH_CHARACTERS

SOURCES = Path(__file__).parents[1] / "web"
# Folder of web/ → folder of the site.
SECTIONS = {"store": "", "console": "console"}
ASSETS = "assets"
CONFIG = "config.json"
# How scripts and pages name other files of theirs.
REFERENCES = {
    ".js": re.compile(
        r"""(?P<before>(?:\bfrom|\bimport)\s*\(?\s*|new\s+URL\(\s*)"(?P<name>\.{1,2}/[^"]+)"""
    ),
    ".html": re.compile(r"""(?P<before>\s(?:href|src)=)"(?P<name>\.{1,2}/[^"]+)"""),
}
STATIC_IMPORT = re.compile(r"""\b(?:from|import)\s*"(?P<name>\./[^"]+)""")
ENTRY = re.compile(r"""<script type="module" src="(?P<name>/[^"]+)""")


class BadReference(ValueError):
    """A file names another one that is not there, or that names it in turn."""


class Site:
    """The files of the site, by their paths in it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        # Source → name under assets/; empty while the file is being read.
        self._assets: dict[Path, str] = {}

    def add_page(self, source: Path, path: str) -> None:
        """Add a page under its own name, with all that it names."""
        text = self._rewritten(source, before=f"/{ASSETS}/")
        needed: dict[str, None] = {}
        for entry in ENTRY.finditer(text):
            self._collect(Path(entry["name"]).name, needed)
        links = "".join(
            f'<link rel="modulepreload" href="/{ASSETS}/{name}">\n' for name in list(needed)[1:]
        )
        self.files[path] = text.replace("</head>", f"{links}</head>", 1).encode()

    def _collect(self, name: str, needed: dict[str, None]) -> None:
        if name not in needed:
            needed[name] = None
            text = self.files[f"{ASSETS}/{name}"].decode()
            for found in STATIC_IMPORT.finditer(text):
                self._collect(Path(found["name"]).name, needed)

    def _asset(self, source: Path, *, named_by: Path) -> str:
        """Add a file under a hashed name, and return that name. Raises BadReference."""
        known = self._assets.get(source)
        if known == "":
            raise BadReference(f"{named_by}: {source.name} names it in turn")
        if known is None:
            if not source.is_file():
                raise BadReference(f"{named_by}: there is no {source}")
            self._assets[source] = ""
            if source.suffix in REFERENCES:
                text = self._rewritten(source, before="./")
            else:
                text = source.read_text(encoding="utf-8")
            content = compact(text, source.suffix).encode()
            digest = hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]
            known = self._assets[source] = f"{source.stem}.{digest}{source.suffix}"
            self.files[f"{ASSETS}/{known}"] = content
        return known

    def _rewritten(self, source: Path, *, before: str) -> str:
        def rewrite(match: re.Match[str]) -> str:
            target = (source.parent / match["name"]).resolve()
            return f'{match["before"]}"{before}{self._asset(target, named_by=source)}'

        return REFERENCES[source.suffix].sub(rewrite, source.read_text(encoding="utf-8"))


def build(
    folder: Path,
    *,
    development: bool = False,
    config: Mapping[str, str] | None = None,
    more: Path | None = None,
    sources: Path = SOURCES,
) -> None:
    """Build the site into a folder; files of an earlier one that it does not have are removed.

    Args:
        folder: where the site goes; created if it is not there.
        development: whether the sign-in for development is in it.
        config: what the shop sets, over what stands in config.json of the sources.
        more: folder whose files go to the site's root, too; one of the same path wins.
        sources: web/.

    Raises:
        BadReference: a file names another one that is not there.
        ValueError: the configuration has a name that pages do not read.
        OSError: a folder cannot be read or written.
    """
    site = Site()
    sections = {**SECTIONS, DEVELOPMENT: DEVELOPMENT} if development else SECTIONS
    for section, prefix in sections.items():
        for source in sorted((sources / section).rglob("*.html")):
            inside = source.relative_to(sources / section).as_posix()
            site.add_page(source.resolve(), f"{prefix}/{inside}".lstrip("/"))
    known = json.loads((sources / (DEVELOPMENT if development else "store") / CONFIG).read_text())
    if unknown := (config or {}).keys() - known.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: pages read only {', '.join(known)}")
    site.files[CONFIG] = f"{json.dumps(known | dict(config or {}))}\n".encode()
    _write(folder, site.files | _plain_files(more))


def _plain_files(folder: Path | None) -> dict[str, bytes]:
    """Return the files of a folder, but for hidden ones: a mounted ConfigMap has some."""
    found = sorted(folder.iterdir()) if folder else ()
    return {
        path.name: path.read_bytes()
        for path in found
        if path.is_file() and not path.name.startswith(".")
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write what is new before what is old goes: the folder may be served meanwhile."""
    for path, content in sorted(files.items(), key=lambda file: file[0].endswith(".html")):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_bytes() != content:
            unfinished = target.with_name(f".{target.name}")
            unfinished.write_bytes(content)
            unfinished.replace(target)
    for section in (ASSETS, DEVELOPMENT):
        for old in sorted((folder / section).rglob("*"), reverse=True):
            if old.is_file() and old.relative_to(folder).as_posix() not in files:
                old.unlink()


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the site goes")
    parser.add_argument(
        "--development", action="store_true", help="with a sign-in without a password"
    )
    parser.add_argument(
        "--config", type=json.loads, default={}, metavar="JSON", help="what the shop sets"
    )
    parser.add_argument(
        "--add", type=Path, metavar="FOLDER", help="whose files go to the site's root, too"
    )
    arguments = parser.parse_args()
    build(
        arguments.folder,
        development=arguments.development,
        config=arguments.config,
        more=arguments.add,
    )
    if arguments.development:
        development_keys.write(arguments.folder, os.environ)


if __name__ == "__main__":
    main()
