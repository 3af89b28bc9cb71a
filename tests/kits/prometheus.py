"""A real Prometheus that scrapes a mesh."""

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.mesh import SERVICES
from devstack.ports import pick_free_port
from tests.kits.mesh import Mesh
from tools.observability import expressions
from tools.prometheus import PrometheusMissing, program


class Prometheus:
    """A server that scrapes a mesh twice a second."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API; None while it does not answer."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    async def values(self, query: str) -> list[float]:
        """Return the values of a query as it is now."""
        data = await asyncio.to_thread(self.ask, "query", query=query)
        return [float(one["value"][1]) for one in data["result"]] if data else []


@contextmanager
def scraping(mesh: Mesh, directory: Path) -> Iterator[Prometheus]:
    """Start one with our alert rules; the test is skipped where there is none."""
    try:
        binary = program("prometheus")
    except PrometheusMissing as error:
        pytest.skip(str(error))
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
        "rule_files": [str(expressions.ALERTS)],
        "scrape_configs": [
            {
                "job_name": service.name,
                "static_configs": [{"targets": [f"127.0.0.1:{mesh.ports[service.name].metrics}"]}],
            }
            for service in SERVICES
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{pick_free_port()}"
    with (directory / "prometheus.log").open("w") as log:
        server = subprocess.Popen(
            [
                str(binary),
                f"--config.file={directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Prometheus(address)
    finally:
        server.terminate()
        server.wait(timeout=20)
