"""The version of seckill/version.py, stamped into what is no Python: chart, image, compose file."""

import re
from pathlib import Path

from seckill.version import VERSION

# Where the version stands: file, and a pattern whose group `version` is it.
PLACES = (
    ("deploy/k8s/Chart.yaml", r"^version: (?P<version>\S+)$"),
    ("deploy/k8s/Chart.yaml", r'^appVersion: "(?P<version>[^"]+)"$'),
    ("deploy/k8s/README.md", r"seckill-mesh:(?P<version>\d[\w.-]*\w)"),
    ("deploy/docker/Dockerfile", r"seckill-mesh:(?P<version>\d[\w.-]*\w)"),
    ("deploy/docker/Dockerfile", r"^LABEL org\.opencontainers\.image\.version=(?P<version>\S+)$"),
    ("README.md", r"seckill-mesh:(?P<version>\d[\w.-]*\w)"),
    ("compose.yaml", r"seckill-mesh:(?P<version>\d[\w.-]*\w)"),
)


def stamped(root: Path) -> dict[str, str]:
    """Return the text of each such file with this version in it.

    Raises:
        LookupError: a file no longer has the place; names both.
    """
    texts: dict[str, str] = {}
    for name, pattern in PLACES:
        text = texts.get(name) or (root / name).read_text()
        texts[name], places = re.subn(
            pattern,
            lambda found: found[0].replace(found["version"], VERSION),
            text,
            flags=re.MULTILINE,
        )
        if places == 0:
            raise LookupError(f"{name} has no place for the version: {pattern}")
    return texts
