"""Debian's packages that tests need and no wheel brings: `python -m tools.debian browser stores`.

As root on Debian or one of its kin this installs what is missing; elsewhere it says what that is,
and the tests that need it are left out. Playwright brings no browser here: its own download is one
more source to trust.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
EXIT_MISSING = 3
TIMEOUT_S = 900
# Another program may be installing.
LOCK_WAIT = "DPkg::Lock::Timeout=120"
# Read by Debian's postgresql-common: the tests make clusters of their own.
CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def has_chinese_fonts() -> bool:
    """Tell whether a font for Chinese is installed, as far as fontconfig knows."""
    if shutil.which("fc-list") is None:
        return False
    found = subprocess.run(
        ["fc-list", ":lang=zh-cn"], capture_output=True, text=True, check=False, timeout=60
    )
    return bool(found.stdout.strip())


def _has(program: str) -> Callable[[], bool]:
    return lambda: any(Path("/usr").glob(program))


# What is asked for → the packages of it, each with how to tell that it is there.
GROUPS: Mapping[str, Mapping[str, Callable[[], bool]]] = {
    "browser": {"chromium": lambda: find_chromium() is not None},
    # For screenshots.
    "fonts": {"fonts-noto-cjk": has_chinese_fonts},
    # Checks a model exhaustively (tests/models); its verifiers are C.
    "models": {
        "spin": _has("bin/spin"),
        "gcc": _has("bin/gcc"),
        "libc6-dev": _has("include/stdio.h"),
    },
    # With TLS, which those of wheels lack.
    "stores": {
        "postgresql": _has("lib/postgresql/*/bin/postgres"),
        "pgbouncer": _has("sbin/pgbouncer"),
        "redis-server": _has("bin/redis-server"),
    },
}


def install(packages: list[str]) -> int:
    """Install these; return the exit status."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        names = " ".join(packages)
        sys.stderr.write(
            f"missing: {names}. Install it (on Debian: sudo apt-get install {names});"
            " what needs it is left out\n"
        )
        return EXIT_MISSING
    if not CLUSTERS.exists():
        CLUSTERS.parent.mkdir(parents=True, exist_ok=True)
        CLUSTERS.write_text("create_main_cluster = false\n")
    # In "runlevel" 1 the packages start no services.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    chosen = ["-o", LOCK_WAIT, "install", "-y", "--no-install-recommends", *packages]
    for arguments in (["update"], chosen):
        # What apt has to say is long, and belongs to nobody's output.
        done = subprocess.run(
            ["apt-get", "-qq", *arguments],
            env=environment,
            stdout=sys.stderr,
            check=False,
            timeout=TIMEOUT_S,
        )
        if done.returncode != 0:
            sys.stderr.write(f"apt-get {' '.join(arguments)} exited with {done.returncode}\n")
            return 1
    return 0


def main() -> int:
    """Install what is missing; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    wanted = [GROUPS[group] for group in parser.parse_args().groups]
    missing = [name for group in wanted for name, there in group.items() if not there()]
    return install(missing) if missing else 0


if __name__ == "__main__":
    sys.exit(main())
