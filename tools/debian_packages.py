"""Install the Debian packages that some tests need: `python -m tools.debian_packages`.

No wheel brings a Postgres or a Redis with TLS, or PgBouncer. As root on Debian or one of its kin
this installs what is missing; elsewhere it says so, and those tests are skipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Package → a program of it, as a pattern.
PACKAGES = {
    "postgresql": "lib/postgresql/*/bin/postgres",
    "pgbouncer": "sbin/pgbouncer",
    "redis-server": "bin/redis-server",
}
# Read by Debian's postgresql-common: the tests make clusters of their own.
CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")
TIMEOUT_S = 300.0
# Another program may be installing.
LOCK_WAIT = "DPkg::Lock::Timeout=120"


def main() -> None:
    """Install what is missing; a machine on which that is not possible is no failure."""
    missing = [name for name, program in PACKAGES.items() if not any(Path("/usr").glob(program))]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(
            f"{', '.join(missing)} not installed: needs root and apt-get; their tests are skipped\n"
        )
        return
    if not CLUSTERS.exists():
        CLUSTERS.parent.mkdir(parents=True, exist_ok=True)
        CLUSTERS.write_text("create_main_cluster = false\n")
    # In "runlevel" 1 the packages start no services.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "-q", "-o", LOCK_WAIT, "install", "-y", "--no-install-recommends"]
    for command in (
        ["apt-get", "-q", "update"],
        [*install, *missing],
    ):
        subprocess.run(command, check=True, env=quiet, timeout=TIMEOUT_S, stdout=sys.stderr)


if __name__ == "__main__":
    main()
