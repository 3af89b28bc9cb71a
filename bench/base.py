"""Earlier releases from git, with which this one is compared."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.sample import InvalidSample

ROOT = Path(__file__).parents[1]
# The last commit before the work on overload and on the path of a purchase.
COMMIT = "a9fd9a0c1ef174704c0f9525753b1603c5c01d79"
FOLDER = ROOT / ".tools" / "bench-base"
# The last commit before there were traces.
BEFORE_TRACES = "cd26327bee20a2e0dbf17c1ec58f5b9429f259af"
BEFORE_TRACES_FOLDER = ROOT / ".tools" / "bench-before-traces"
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
    """Return the release before the gateway's own front, which `peak_vs_base` is about.

    It is installed the first time.

    Raises:
        InvalidSample: git does not have the commit, or its packages cannot be installed.
    """
    release = Release(FOLDER, FOLDER / ".venv" / "bin" / "python")
    done = FOLDER / ".installed"
    if done.exists() and done.read_text() == COMMIT:
        return release
    _unpack(COMMIT, FOLDER)
    _run(sys.executable, "-m", "venv", "--clear", str(FOLDER / ".venv"))
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
    _run(str(release.python), *pip, "-r", str(FOLDER / "requirements" / "runtime.lock"))
    done.write_text(COMMIT)
    return release


def before_traces() -> Release:
    """Return the release before traces, on the packages of this one: only the code differs.

    Raises:
        InvalidSample: git does not have the commit.
    """
    done = BEFORE_TRACES_FOLDER / ".unpacked"
    if not done.exists() or done.read_text() != BEFORE_TRACES:
        _unpack(BEFORE_TRACES, BEFORE_TRACES_FOLDER)
        done.write_text(BEFORE_TRACES)
    return Release(BEFORE_TRACES_FOLDER, Path(sys.executable))


def _unpack(commit: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "base.tar"
    _run("git", "-C", str(ROOT), "archive", "--output", str(archive), commit)
    _run("tar", "-xf", str(archive), "-C", str(folder))
    archive.unlink()


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidSample(f"{command[0]}: {said[-1] if said else 'failed'}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidSample(f"{command[0]}: {error}") from error
