"""The local stack's own pages: a sign-in without a password, for development alone."""

import json
import stat
from pathlib import Path

import pytest

from devstack.pages import payment_providers, prepare_pages
from edge.development_keys import PROVIDER
from seckill.runtime.dev_issuer import load_or_create


def settings(folder: Path, **changes: str) -> dict[str, str]:
    """Return the settings that the pages are made for."""
    issuer = load_or_create(folder)
    return {
        "SECKILL_PROFILE": "development",
        "SECKILL_GATEWAY_JWKS": str(issuer.jwks_path),
        "SECKILL_GATEWAY_JWT_ISSUER": issuer.issuer,
        "SECKILL_GATEWAY_JWT_AUDIENCE": issuer.audience,
        "SECKILL_ORDER_PAYMENT_PROVIDERS": payment_providers(folder),
        **changes,
    }


def test_the_keys_are_this_stack_s_own(tmp_path: Path) -> None:
    """Those of its issuer and its payment provider, for nobody else on this machine."""
    env = settings(tmp_path / "secrets")
    prepare_pages(env, tmp_path / "web")
    path = tmp_path / "web" / "dev" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = json.loads(path.read_text())
    (jwk,) = json.loads(Path(env["SECKILL_GATEWAY_JWKS"]).read_text())["keys"]
    assert keys["key"] == jwk["k"]
    (provider,) = json.loads(env["SECKILL_ORDER_PAYMENT_PROVIDERS"])
    assert keys["provider"] == {"name": PROVIDER, "secret": provider["secret"]}
    # Asked for again, the secret is the same.
    assert settings(tmp_path / "secrets") == env


def test_a_provider_of_the_user_s_own_is_none_of_the_page_s(tmp_path: Path) -> None:
    """Then the page that pays has none."""
    own = json.dumps([{"name": "psp", "scheme": "stripe", "secret": "whsec_x"}])
    prepare_pages(
        settings(tmp_path / "secrets", SECKILL_ORDER_PAYMENT_PROVIDERS=own), tmp_path / "web"
    )
    keys = json.loads((tmp_path / "web" / "dev" / "keys.json").read_text())
    assert keys["provider"] is None


@pytest.mark.parametrize(
    "changes", [{"SECKILL_PROFILE": "production"}, {"SECKILL_GATEWAY_JWKS": None}], ids=str
)
def test_another_profile_has_no_sign_in_of_its_own(
    tmp_path: Path, changes: dict[str, str | None]
) -> None:
    """Nor has a mesh without an issuer."""
    env = {**settings(tmp_path / "secrets"), **changes}
    given = {name: value for name, value in env.items() if value is not None}
    prepare_pages(given, tmp_path / "web")
    assert not (tmp_path / "web" / "dev").exists()
    assert json.loads((tmp_path / "web" / "config.json").read_text())["signIn"] == ""
