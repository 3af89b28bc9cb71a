"""Generate what is generated, or prove that it is fresh.

The stubs in seckill/v1 from protos/, the tables of currencies (tools/currencies.py), and the
version where it stands outside of Python (tools/stamps.py).

The contracts import google/api/annotations.proto; it and what it imports stand in protos/google,
copied from the googleapis-common-protos wheel, so that buf and protoc need nothing else.

`python -m tools.generate` writes them; `python -m tools.generate --check` exits 1 and names each
file that differs from what the contracts say.
"""

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc

from tools import currencies, stamps

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("seckill/v1")
IMPORTED = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
)
# The folder that holds `google`, in the wheel.
WHEEL = Path(annotations_pb2.__file__).parents[2]


def generate(out: Path) -> None:
    """Write stubs for every contract below `out`; raise RuntimeError if protoc refuses."""
    files = sorted(str(path) for path in (PROTOS / PACKAGE).glob("*.proto"))
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
    """Return the names of files that differ between the folders, or are in only one of them."""
    names = {path.name for folder in (fresh, committed) for path in folder.glob("*.py*")}
    _, mismatch, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted(mismatch + missing)


def stale_imports() -> list[str]:
    """Return the names of imported contracts that differ from the wheel's or are missing."""
    return [
        name
        for name in IMPORTED
        if not (PROTOS / name).exists()
        or (PROTOS / name).read_bytes() != (WHEEL / name).read_bytes()
    ]


def copy_imports() -> None:
    """Bring the imported contracts from the wheel into protos/."""
    for name in IMPORTED:
        (PROTOS / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(WHEEL / name, PROTOS / name)


def texts() -> dict[str, str]:
    """Return the other generated files: text by name."""
    return {
        currencies.MODULE: currencies.module_text(),
        currencies.PAGES_MODULE: currencies.pages_module_text(),
        **stamps.stamped(ROOT),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only name what is stale")
    arguments = parser.parse_args()
    stale_names = [f"protos/{name}" for name in stale_imports()]
    wanted = texts()
    stale_names += [
        name
        for name, text in wanted.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != text
    ]
    if not arguments.check:
        copy_imports()
        for name, text in wanted.items():
            (ROOT / name).write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        stale_names += [f"{PACKAGE / name}" for name in stale(out / PACKAGE, ROOT / PACKAGE)]
        if not arguments.check:
            for path in (ROOT / PACKAGE).glob("*.py*"):
                path.unlink()
            shutil.copytree(out / PACKAGE, ROOT / PACKAGE, dirs_exist_ok=True)
            return 0
    for name in stale_names:
        sys.stderr.write(f"{name} is stale: run `make generate` and commit it\n")
    return 1 if stale_names else 0


if __name__ == "__main__":
    sys.exit(main())
