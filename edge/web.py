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
# Folder of what only the development profile serves: a sign-in without a password, and its keys.
DEVELOPMENT = "dev"
# Folder of the operators' console, which their own listener serves.
CONSOLE = "console/"
# "sale.0f3c….js": a name that holds the start of its content's SHA-256 names that content for good.
HASH_CHARACTERS = 16
HASHED = re.compile(rf"\.([0-9a-f]{{{HASH_CHARACTERS}}})\.[a-z0-9]+$")
FOR_GOOD = "public, max-age=31536000, immutable"
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
# What a page may do: run, show and call what comes from here, and nothing inline. No other page may
# frame it. Workers have the policy of their own script.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
GOVERNED = frozenset({".html", ".js", ".mjs", ".svg"})


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file that is served.

    Attributes:
        path: under the folder, with slashes.
        stamp: changes when the file does.
    """

    path: str
    stamp: tuple[int, int]


def list_files(folder: str, *, profile: str) -> tuple[WebFile, ...]:
    """Return the files of a folder, ordered by name; none if there is no such folder.

    Hidden ones are left out, and those for development if the profile is another.

    Raises:
        ValueError: there are too many, or one is too large.
    """
    if not folder or not Path(folder).is_dir():
        return ()
    root = Path(folder)
    files = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if profile != "development" and name.startswith(f"{DEVELOPMENT}/"):
            continue
        if path.is_file() and not re.search(r"(^|/)\.", name):
            status = path.stat()
            if status.st_size > FILE_BYTES_MAX:
                raise ValueError(f"{path} has more than {FILE_BYTES_MAX} bytes")
            files.append(WebFile(name, (status.st_mtime_ns, status.st_size)))
    if len(files) > FILES_MAX:
        raise ValueError(f"{folder} has more than {FILES_MAX} files")
    return tuple(files)


def of_the_public(files: tuple[WebFile, ...]) -> tuple[WebFile, ...]:
    """Return what the public gets of these files: not the operators' console."""
    return tuple(file for file in files if not file.path.startswith(CONSOLE))


def policy_with(origins: tuple[str, ...]) -> str:
    """Return the policy of pages that may also run, frame and call these origins."""
    if not origins:
        return POLICY
    allowed = " ".join(("'self'", *origins))
    scripts = POLICY.replace("script-src 'self'", f"script-src {allowed}")
    return f"{scripts}; frame-src {allowed}; connect-src {allowed}"


def file_routes(folder: str, files: tuple[WebFile, ...], *, policy: str = POLICY) -> list[Json]:
    """Return two routes a file: for browsers that have it already, and for the others.

    Args:
        folder: where the files are.
        files: what is served of it.
        policy: the Content-Security-Policy of pages and scripts.
    """
    return [route for file in files for route in _routes(Path(folder) / file.path, file, policy)]


def _routes(path: Path, file: WebFile, policy: str) -> list[Json]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Weak: what Envoy compresses on the way keeps it.
    etag = f'"{digest[:32]}"'
    headers = [
        overwritten("etag", f"W/{etag}"),
        overwritten("cache-control", _cache_control(file.path, digest)),
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
                "response_headers_to_add": [*headers, *_content_headers(path.suffix, policy)],
                **switched_off(TRANSCODER),
            }
        )
    return routes


def _cache_control(name: str, digest: str) -> str:
    hashed = HASHED.search(name)
    if hashed is not None and digest.startswith(hashed[1]):
        return FOR_GOOD
    # A name that does not change with its content: each use asks whether that has changed.
    return "no-cache"


def _content_headers(suffix: str, policy: str) -> list[Json]:
    headers = [
        overwritten("content-type", CONTENT_TYPES.get(suffix, OTHER)),
        overwritten("x-content-type-options", "nosniff"),
        overwritten("referrer-policy", "same-origin"),
        overwritten("cross-origin-resource-policy", "same-origin"),
    ]
    if suffix in GOVERNED:
        headers.append(overwritten("content-security-policy", policy))
    if suffix == ".html":
        headers.append(overwritten("permissions-policy", PERMISSIONS))
        headers.append(overwritten("cross-origin-opener-policy", "same-origin"))
    return headers
