"""Generate the stubs in seckill/v1 from protos/, or prove that they are fresh.

`python -m tools.generate` writes them; `python -m tools.generate --check` exits 1 and names each
file that differs from what the contracts say.
"""

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("seckill/v1")


def generate(out: Path) -> None:
    """Write stubs for every contract below `out`; raises RuntimeError where protoc refuses."""
    files = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    plugins = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    # Beside this Python, whether or not its environment is activated.
    scripts = Path(sys.executable).parent
    plugins += [
        f"--plugin=protoc-gen-{kind}={scripts / f'protoc-gen-{kind}'}"
        for kind in ("mypy", "mypy_grpc")
    ]
    well_known = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *plugins, *files])
    if status != 0:
        raise RuntimeError(f"protoc exited with {status}")
    (out / PACKAGE / "__init__.py").write_text('"""Generated stubs; never edited."""\n')


def stale(fresh: Path, committed: Path) -> list[str]:
    """Names of files that differ between the two folders, or stand in only one of them."""
    names = {path.name for folder in (fresh, committed) for path in folder.glob("*.py*")}
    _, mismatch, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted(mismatch + missing)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell what is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        differing = stale(out / PACKAGE, ROOT / PACKAGE)
        if not arguments.check:
            for path in (ROOT / PACKAGE).glob("*.py*"):
                path.unlink()
            shutil.copytree(out / PACKAGE, ROOT / PACKAGE, dirs_exist_ok=True)
            return 0
    for name in differing:
        sys.stderr.write(f"{PACKAGE / name} is stale: run `make generate` and commit it\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
