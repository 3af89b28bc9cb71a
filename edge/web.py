"""Static files: each is a route whose answer Envoy keeps in memory.

A page is a handful of small files. (Envoy's own file server is work in progress, and its
documentation says that it is not for the public.)
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from edge.transcoding import NAME as TRANSCODER
from edge.typed import Json, overwritten, switched_off

FILES_MAX = 200
FILE_BYTES_MAX = 1024 * 1024
INDEX = "index.html"
OTHER = "application/octet-stream"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file that is served.

    Attributes:
        path: under the folder, with slashes.
        stamp: changes when the file does.
    """

    path: str
    stamp: tuple[int, int]


def list_files(folder: str) -> tuple[WebFile, ...]:
    """Return the files of a folder, ordered by name; none if there is no such folder.

    Hidden ones are left out.

    Raises:
        ValueError: there are too many, or one is too large.
    """
    if not folder or not Path(folder).is_dir():
        return ()
    root = Path(folder)
    files = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not re.search(r"(^|/)\.", name):
            status = path.stat()
            if status.st_size > FILE_BYTES_MAX:
                raise ValueError(f"{path} has more than {FILE_BYTES_MAX} bytes")
            files.append(WebFile(name, (status.st_mtime_ns, status.st_size)))
    if len(files) > FILES_MAX:
        raise ValueError(f"{folder} has more than {FILES_MAX} files")
    return tuple(files)


def file_routes(folder: str, files: tuple[WebFile, ...]) -> list[Json]:
    """Return two routes a file: for browsers that have it already, and for the others."""
    return [route for file in files for route in _routes(Path(folder) / file.path, file)]


def _routes(path: Path, file: WebFile) -> list[Json]:
    etag = f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"'
    headers = [
        overwritten("etag", etag),
        # Names do not change with their content, so each use asks whether it has.
        overwritten("cache-control", "no-cache"),
    ]
    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    has_it = {"name": "if-none-match", "string_match": {"contains": etag}}
    matches = [{"path": f"/{file.path}"}]
    if file.path == INDEX or file.path.endswith(f"/{INDEX}"):
        matches.append({"path": f"/{file.path.removesuffix(INDEX)}"})
    routes: list[Json] = []
    for match in matches:
        routes.append(
            {
                "match": {**match, "headers": [reads, has_it]},
                "direct_response": {"status": 304},
                "response_headers_to_add": headers,
                **switched_off(TRANSCODER),
            }
        )
        routes.append(
            {
                "match": {**match, "headers": [reads]},
                "direct_response": {"status": 200, "body": {"filename": str(path)}},
                "response_headers_to_add": [
                    *headers,
                    overwritten("content-type", CONTENT_TYPES.get(path.suffix, OTHER)),
                    overwritten("x-content-type-options", "nosniff"),
                    overwritten("referrer-policy", "same-origin"),
                ],
                **switched_off(TRANSCODER),
            }
        )
    return routes
