"""The files of bench/ghz say what the contract says, and its README names them all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.json_format import ParseDict

from seckill.v1 import gateway_pb2, order_pb2, sale_pb2
from seckill_cli.local import bench

FOLDER = Path(__file__).parents[2] / "bench/ghz"
FILES = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
# What `seckill bench` writes, by the file's name: an entry of each.
MONEY = sale_pb2.Money(currency="CNY", minor_units=990)
ENTRIES: dict[str, dict[str, object]] = {
    "purchases.json": bench.purchase("sku", "token"),
    "orders.json": {"order_no": "0" * 26},
    "payments.json": bench.payment(order_pb2.Order(order_no="0" * 26, amount=MONEY)),
}
WHO = {"buyers.json": "bench tokens", "owners.json": "bench orders"}
PUBLIC = {"GetSale", "ListSales"}


def method_of(config: dict[str, Any]) -> MethodDescriptor:
    """The method that a file calls."""
    service, _, method = config["call"].rpartition(".")
    assert service == SERVICE.full_name
    found: MethodDescriptor = SERVICE.methods_by_name[method]
    return found


def parses_as(message: Descriptor, entry: dict[str, object]) -> bool:
    """Whether an entry of data is a request; raises ParseError where it is not."""
    ParseDict(entry, getattr(gateway_pb2, message.name)())
    return True


def test_every_method_of_buyers_has_a_file() -> None:
    """And no file calls anything else: payment providers send one callback at a time."""
    called = {method_of(config).name for config in FILES.values()}
    assert called == {method.name for method in SERVICE.methods} - {"ReceivePaymentCallback"}


@pytest.mark.parametrize("name", FILES)
def test_data_are_requests_of_the_method(name: str) -> None:
    """Constant data, or what `seckill bench` writes under that name."""
    config = FILES[name]
    request = method_of(config).input_type
    if "data" in config:
        assert parses_as(request, config["data"])
    else:
        path = Path(config["data-file"])
        assert path.parent == bench.FOLDER
        assert parses_as(request, ENTRIES[path.name])


@pytest.mark.parametrize("name", FILES)
def test_callers_are_known_where_the_method_asks(name: str) -> None:
    """An identity for each call, or none; the host is this machine."""
    config = FILES[name]
    assert config["name"] == name.removesuffix(".json")
    assert config["host"].startswith("127.0.0.1:")
    assert ("metadata-file" in config) == (method_of(config).name not in PUBLIC)
    if "metadata-file" in config:
        path = Path(config["metadata-file"])
        assert path.parent == bench.FOLDER
        assert path.name in WHO


def test_the_readme_names_each_file_and_pastes_what_exists() -> None:
    """In its table and in its lines, with the command that mints what the file needs."""
    text = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"--config bench/ghz/([\w-]+\.json)", text)) == set(FILES)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for name, config in FILES.items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        minted = WHO.get(Path(config.get("metadata-file", "")).name)
        assert minted is None or f"`{minted}`" in row
