"""Chromium for the tests of the pages: `python -m tools.chromium` finds one, or installs Debian's.

It is installed by apt where there is none, by root alone; anybody else is told what is missing.
Playwright brings no browser here: its own download is one more source to trust. `--fonts` asks for
Chinese fonts too, which screenshots need.
"""

import argparse
import os
import shutil
import subprocess
import sys

PROGRAMS = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
PACKAGE = "chromium"
FONTS = "fonts-noto-cjk"
EXIT_MISSING = 3
INSTALL_TIMEOUT_S = 900


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def has_chinese_fonts() -> bool:
    """Tell whether a font for Chinese is installed, as far as fontconfig knows."""
    if shutil.which("fc-list") is None:
        return False
    found = subprocess.run(
        ["fc-list", ":lang=zh-cn"], capture_output=True, text=True, check=False, timeout=60
    )
    return bool(found.stdout.strip())


def install(packages: list[str]) -> int:
    """Install Debian's packages; return the exit status."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(
            f"missing: {', '.join(packages)}. Install it (on Debian: sudo apt-get install"
            f" {' '.join(packages)}), so that one of {', '.join(PROGRAMS)} is on PATH, and run"
            " this again.\n"
        )
        return EXIT_MISSING
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages],
    ):
        # What apt has to say is long, and belongs to nobody's output.
        done = subprocess.run(
            command, env=environment, stdout=sys.stderr, check=False, timeout=INSTALL_TIMEOUT_S
        )
        if done.returncode != 0:
            sys.stderr.write(f"{' '.join(command)} exited with {done.returncode}\n")
            return 1
    return 0


def main() -> int:
    """Install what is missing; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", action="store_true", help="Chinese fonts too")
    arguments = parser.parse_args()
    packages = [] if find_chromium() else [PACKAGE]
    if arguments.fonts and not has_chinese_fonts():
        packages.append(FONTS)
    return install(packages) if packages else 0


if __name__ == "__main__":
    sys.exit(main())
