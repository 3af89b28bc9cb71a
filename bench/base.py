"""The release before the gateway's own front, installed from git: what `peak_vs_base` compares."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.sample import InvalidSample

ROOT = Path(__file__).parents[1]
# The last commit before the work on overload and on the path of a purchase.
COMMIT = "a9fd9a0c1ef174704c0f9525753b1603c5c01d79"
FOLDER = ROOT / ".tools" / "bench-base"
# Installing needs the network, and may compile nothing.
INSTALL_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Release:
    """A release that lies in a folder of its own.

    Attributes:
        root: its files.
        python: the interpreter of its own environment.
    """

    root: Path
    python: Path


def base() -> Release:
    """Return the base release; it is installed the first time.

    Raises:
        InvalidSample: git does not have the commit, or its packages cannot be installed.
    """
    release = Release(FOLDER, FOLDER / ".venv" / "bin" / "python")
    done = FOLDER / ".installed"
    if done.exists() and done.read_text() == COMMIT:
        return release
    FOLDER.mkdir(parents=True, exist_ok=True)
    archive = FOLDER / "base.tar"
    _run("git", "-C", str(ROOT), "archive", "--output", str(archive), COMMIT)
    _run("tar", "-xf", str(archive), "-C", str(FOLDER))
    archive.unlink()
    _run(sys.executable, "-m", "venv", "--clear", str(FOLDER / ".venv"))
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
    _run(str(release.python), *pip, "-r", str(FOLDER / "requirements" / "runtime.lock"))
    done.write_text(COMMIT)
    return release


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidSample(f"{command[0]}: {said[-1] if said else 'failed'}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidSample(f"{command[0]}: {error}") from error
