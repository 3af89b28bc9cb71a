"""What a secure local stack is made of: certificates of stages, users of stores."""

import stat
from pathlib import Path

import pytest
import redis
from cryptography import x509

from devstack.authority import Authority
from devstack.certificates import issue_stage, load_or_create_mesh
from devstack.errors import StackError
from devstack.redis_users import password_of, redis_url_of
from devstack.settings import read_secure
from devstack.valkey import ValkeyWithUsers
from seckill.runtime.callers import STAGES


@pytest.mark.parametrize(("given", "secure"), [("", False), ("0", False), ("1", True)])
def test_the_variable_says_whether(given: str, *, secure: bool) -> None:
    """Empty as if it were not set."""
    assert read_secure({"SECKILL_LOCAL_SECURE": given}) is secure


def test_another_value_is_refused_by_name() -> None:
    """`SECURE=yes` must not start a stack that is not."""
    with pytest.raises(StackError, match="SECKILL_LOCAL_SECURE=yes: must be 0 or 1"):
        read_secure({"SECKILL_LOCAL_SECURE": "yes"})


def test_each_stage_has_a_certificate_that_names_it_alone(tmp_path: Path) -> None:
    """Made once, and again if one of them is missing; keys are this user's."""
    made = load_or_create_mesh(tmp_path / "tls")
    for stage in STAGES:
        own = made.stages[stage]
        found = x509.load_pem_x509_certificate(own.certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [f"{stage}.seckill.internal", "localhost"]
        assert stat.S_IMODE(own.key.stat().st_mode) == 0o600
    before = made.authority.read_bytes()
    assert load_or_create_mesh(tmp_path / "tls").authority.read_bytes() == before
    made.stages["order"].certificate.unlink()
    assert load_or_create_mesh(tmp_path / "tls").authority.read_bytes() != before


def test_the_authority_signs_again_later(tmp_path: Path) -> None:
    """A certificate is renewed by the one that all stages trust."""
    made = load_or_create_mesh(tmp_path)
    before = made.stages["order"].certificate.read_bytes()
    again = issue_stage(Authority.load(tmp_path), "order")
    assert again == made.stages["order"]
    signed = x509.load_pem_x509_certificate(again.certificate.read_bytes())
    assert again.certificate.read_bytes() != before
    signed.verify_directly_issued_by(x509.load_pem_x509_certificate(made.authority.read_bytes()))


def test_redis_has_a_user_for_each_service_who_knows_no_other_password(tmp_path: Path) -> None:
    """And nobody without a password."""
    with ValkeyWithUsers(tmp_path / "valkey") as server:
        for stage in ("gateway", "inventory", "order", "rollback"):
            with redis.Redis.from_url(redis_url_of(stage, server.url)) as client:
                assert client.ping()
        with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    passwords = {password_of(f"seckill-{stage}", "secret") for stage in ("gateway", "order")}
    assert len(passwords) == 2
