"""Compare the contracts with those on main, where git has them (`buf breaking`, FILE).

On main itself the previous commit is what callers may still use. A checkout without history has
nothing to compare with, and says so.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).with_name("buf")


def git(*arguments: str) -> str | None:
    """What git prints, or None if it fails."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def baseline() -> str | None:
    """The commit to compare with, or None."""
    head = git("rev-parse", "HEAD")
    for candidate in ("origin/main", "main", "HEAD~1"):
        commit = git("rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}")
        if commit and commit != head and git("ls-tree", commit, "protos/seckill"):
            return commit
    return None


def main() -> int:
    commit = baseline()
    if commit is None:
        sys.stdout.write("buf breaking: no earlier contracts to compare with\n")
        return 0
    against = f".git#ref={commit}"
    return subprocess.run([BUF, "breaking", "--against", against], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
