"""Settings of the operators' listener: what is refused, and what an edge without one has."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge.bootstrap import bootstrap, listeners_path
from edge.operators.config import config_route, policy, served
from edge.operators.listener import operator_listener
from edge.render import render
from edge.settings import EdgeSettings
from edge.web import WebFile
from seckill.runtime.dev_issuer import load_or_create

DEVELOPMENT_FILE = WebFile("dev/keys.json", (1, 1))
PAGE_FILE = WebFile("console/index.html", (1, 1))


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """The path of a key set for development."""
    return str(load_or_create(tmp_path / "keys").jwks_path)


def settings(**given: object) -> EdgeSettings:
    """Return settings of the development profile, beside those given."""
    return EdgeSettings.model_validate({"profile": "development", **given})


def with_listener(keys: str, **given: object) -> EdgeSettings:
    """Return settings with the listener."""
    return settings(
        edge_operator_listen="127.0.0.1:8081",
        order_operator_jwks=keys,
        order_operator_jwt_issuer="https://issuer.example",
        **given,
    )


def problem(**given: object) -> tuple[str, str]:
    """Return the field that is refused, and why."""
    with pytest.raises(ValidationError) as raised:
        settings(**given)
    (error,) = raised.value.errors()
    return str(error["loc"][0]), error["msg"]


def test_by_default_there_is_none(tmp_path: Path) -> None:
    """Neither a listener nor a way to the services that only operators call."""
    found = bootstrap(settings(edge_directory=tmp_path))
    assert "dynamic_resources" not in found
    names = {cluster["name"] for cluster in found["static_resources"]["clusters"]}
    assert names == {"gateway", "agent", "admin"}


def test_it_starts_without_a_listener_until_keys_are_known(tmp_path: Path, keys: str) -> None:
    """The agent writes it; Envoy has nothing to ask before."""
    given = with_listener(keys, edge_directory=tmp_path / "edge")
    render(given)
    assert json.loads(listeners_path(given).read_text()) == {"resources": []}


def test_it_needs_keys_and_an_issuer(keys: str) -> None:
    """A listener that took any token would be open."""
    listen = "127.0.0.1:8081"
    issuer = "https://issuer.example"
    field, why = problem(edge_operator_listen=listen, order_operator_jwt_issuer=issuer)
    assert (field, "is required" in why) == ("order_operator_jwks", True)
    field, why = problem(edge_operator_listen=listen, order_operator_jwks=keys)
    assert (field, "is required" in why) == ("order_operator_jwt_issuer", True)


def test_symmetric_keys_are_for_development(keys: str) -> None:
    """Whoever verifies by such a key can also sign."""
    given = {
        "profile": "production",
        "edge_operator_listen": "127.0.0.1:8081",
        "order_operator_jwks": keys,
        "order_operator_jwt_issuer": "https://issuer.example",
    }
    field, why = problem(**given)
    assert (field, "symmetric" in why) == ("order_operator_jwks", True)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"edge_operator_listen": "8081"}, "edge_operator_listen", "host:port"),
        ({"edge_operator_metrics": "gateway"}, "edge_operator_metrics", "'gateway' is not"),
        ({"edge_operator_metrics": "a=h:1,a=h:2"}, "edge_operator_metrics", "'a' is there twice"),
        ({"edge_operator_sign_in": "javascript:1"}, "edge_operator_sign_in", "pattern"),
        ({"order_target": "unix:/x"}, "order_target", "pattern"),
        (
            {"profile": "production", "edge_operator_public_origin": "http://127.0.0.1:8080"},
            "edge_operator_public_origin",
            "production profile refuses",
        ),
    ],
)
def test_bad_values_are_refused(given: dict[str, str], field: str, words: str) -> None:
    """With the field and what is wrong with it."""
    found, why = problem(**given)
    assert (found, words in why) == (field, True)


def test_operators_get_the_console_and_nothing_of_the_storefront(keys: str) -> None:
    """Its configuration says whether the key for development is there."""
    files = (DEVELOPMENT_FILE, PAGE_FILE, WebFile("index.html", (1, 1)))
    assert served(files) == (DEVELOPMENT_FILE, PAGE_FILE)
    for given, told in (((DEVELOPMENT_FILE, PAGE_FILE), True), ((PAGE_FILE,), False)):
        route = config_route(with_listener(keys), given)
        config = json.loads(route["direct_response"]["body"]["inline_string"])
        assert config["developmentIssuer"] is told


def test_pages_call_the_public_edge_only_for_rehearsals(keys: str) -> None:
    """Otherwise nothing but their own origin."""
    assert "connect-src" not in policy(with_listener(keys))
    origin = "http://127.0.0.1:8080"
    told = policy(with_listener(keys, edge_operator_public_origin=origin))
    assert told.endswith(f"; connect-src 'self' {origin}")


def test_operators_get_through_when_the_public_has_everything(keys: str) -> None:
    """Neither the bound on connections nor a full memory closes their door."""
    listener = operator_listener(with_listener(keys), Path(keys).read_text(), ())
    assert listener["ignore_global_conn_limit"] is True
    assert listener["bypass_overload_manager"] is True
    assert listener["address"]["socket_address"]["port_value"] == 8081
