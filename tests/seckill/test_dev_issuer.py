"""The issuer of identities for development and for trying."""

import json
from pathlib import Path

import pytest

from seckill.runtime import dev_issuer
from seckill.runtime.dev_issuer import AUDIENCE, ISSUER, load_or_create
from seckill.runtime.identity import TokenVerifier
from seckill.runtime.jwks import KeySet, parse_jwks
from seckill.runtime.purchase_tokens import parse_keys, refuse_weak_key


async def test_an_asymmetric_issuer_is_one_for_the_production_profile(tmp_path: Path) -> None:
    """Its JWKS has no private half, verifies its tokens, and its other keys are strong."""
    issuer = load_or_create(tmp_path, asymmetric=True)
    keys = KeySet(str(issuer.jwks_path), allow_symmetric=False, reload_interval_s=60)
    await keys.load()
    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
    claims = verifier.verify(issuer.token("alice", roles=["operator"]).encode())
    assert (claims.user_id, claims.roles) == ("alice", ["operator"])
    (entry,) = json.loads(issuer.jwks_path.read_text())["keys"]
    assert "d" not in entry
    for key in parse_keys(issuer.purchase_token_keys):
        refuse_weak_key(key)


def test_a_symmetric_one_is_refused_there(tmp_path: Path) -> None:
    """Whoever verifies could sign."""
    with pytest.raises(ValueError, match="symmetric"):
        parse_jwks(load_or_create(tmp_path).jwks_path.read_text(), allow_symmetric=False)


@pytest.mark.parametrize("asymmetric", [True, False])
def test_keys_that_are_there_stay(tmp_path: Path, asymmetric: bool) -> None:
    """Whatever kind is asked for the next time."""
    first = load_or_create(tmp_path, asymmetric=asymmetric)
    assert load_or_create(tmp_path, asymmetric=not asymmetric) == first


def test_the_command_makes_keys_and_prints_identities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed without a user."""
    dev_issuer.main("--es256", str(tmp_path / "keys"))
    assert capsys.readouterr().out == ""
    assert (tmp_path / "keys" / dev_issuer.PRIVATE_KEY_NAME).stat().st_mode & 0o077 == 0
    dev_issuer.main(str(tmp_path / "keys"), "alice")
    assert capsys.readouterr().out.count(".") == 2
