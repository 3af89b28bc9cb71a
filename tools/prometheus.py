"""Where Prometheus is: `promtool`, which checks rules, and the server, which the tests ask.

What is on PATH is taken. Else Debian's package is unpacked into .tools/prometheus, which takes
seconds, needs no root and installs nothing; where there is no apt, promtool alone is built with Go
(tools/install.py), which takes minutes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import install

PACKAGE = "prometheus"
FOLDER = install.ROOT / ".tools" / "prometheus"
DOWNLOAD_TIMEOUT_S = 300


class PrometheusMissing(Exception):
    """A program of Prometheus is neither here nor to be had; the message says what to do."""


def program(name: str) -> Path:
    """Return the path of `promtool` or `prometheus`; fetch it if need be.

    Raises:
        PrometheusMissing: it cannot be had.
    """
    found = shutil.which(name)
    if found:
        return Path(found)
    unpacked = FOLDER / "usr" / "bin" / name
    if not unpacked.exists():
        _unpack()
    if unpacked.exists():
        return unpacked
    if name == "promtool" and install.install([_promtool()]) == 0:
        return _promtool().path
    raise PrometheusMissing(
        f"{name} is missing: install Prometheus (Debian: apt-get install prometheus), so that it is"
        " on PATH"
    )


def _promtool() -> install.Tool:
    return next(tool for tool in install.TOOLS if tool.name == "promtool")


def _unpack() -> None:
    """Unpack Debian's package, if apt has it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return
    sys.stderr.write("fetching Debian's package of Prometheus\n")
    with tempfile.TemporaryDirectory() as folder:
        if not _download(folder):
            return
        (archive,) = Path(folder).glob("*.deb")
        unfinished = Path(tempfile.mkdtemp(dir=_made(FOLDER.parent), prefix="prometheus-"))
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(unfinished)], check=True)
    try:
        unfinished.rename(FOLDER)
    except OSError:
        # Another process was faster.
        shutil.rmtree(unfinished)


def _download(folder: str) -> bool:
    """Download the package into `folder`; the lists of packages may be missing or old."""
    command = ["apt-get", "download", "--quiet", PACKAGE]
    for step in (command, ["apt-get", "update", "--quiet"], command):
        done = subprocess.run(
            step,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        if step is command and done.returncode == 0:
            return True
    sys.stderr.write(done.stderr)
    return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
