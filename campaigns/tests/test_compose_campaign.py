"""What the campaign on Compose lays over compose.yaml, as far as that shows without Docker."""

from typing import Any

import pytest
import yaml

from campaigns.compose import FILE, Overridden, override
from campaigns.images import Images

IMAGES = Images(prefix="registry.example/shop", tag="7")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


class Loader(yaml.SafeLoader):
    """Reads the one tag that Compose adds to YAML."""


def _overridden(loader: Loader, node: yaml.SequenceNode) -> Overridden:
    return Overridden(loader.construct_sequence(node))


Loader.add_constructor("!override", _overridden)


@pytest.fixture(scope="module")
def laid_over() -> dict[str, dict[str, Any]]:
    """The services of the second file."""
    services: dict[str, dict[str, Any]] = yaml.load(override(IMAGES), Loader)["services"]  # noqa: S506 - own, of SafeLoader
    return services


def test_each_image_is_one_of_the_campaigns(laid_over: dict[str, dict[str, Any]]) -> None:
    """Nothing is pulled: all that is started by default has an image that is built here."""
    assert laid_over.keys() == {n for n, service in SERVICES.items() if "profiles" not in service}
    for name, service in laid_over.items():
        assert service["image"].startswith("registry.example/shop/"), name
        stores = {"postgres", "valkey", "kafka", "topics", "edge"}
        assert (service["image"] == IMAGES.product) is (name not in stores), name


def test_ports_are_free_ones_of_this_machine(laid_over: dict[str, dict[str, Any]]) -> None:
    """They take the place of the fixed ones, so that it runs beside `make up`."""
    for name, service in laid_over.items():
        fixed = SERVICES[name].get("ports", [])
        assert isinstance(service.get("ports", Overridden()), Overridden)
        assert service.get("ports", []) == [
            f"127.0.0.1::{port.rpartition(':')[2]}" for port in fixed
        ], name
    assert laid_over["edge"]["ports"] == ["127.0.0.1::8080", "127.0.0.1::8081"]
