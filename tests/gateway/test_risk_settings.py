"""Settings of risk and challenges: what is wrong is named, and no secret is shown."""

import base64

import pytest

from gateway.settings import GatewaySettings
from seckill.runtime.settings import load

TOKEN_SECRET = base64.b64encode(bytes(range(100, 132))).decode()
NEEDED = {
    "SECKILL_GATEWAY_JWKS": "https://issuer.example/jwks",
    "SECKILL_GATEWAY_JWT_ISSUER": "https://issuer.example",
    "SECKILL_GATEWAY_TOKEN_KEYS": f"k1:{TOKEN_SECRET}",
}
ATTESTATION = {
    "SECKILL_GATEWAY_CHALLENGE": "attestation",
    "SECKILL_GATEWAY_ATTESTATION_URL": "https://provider.example/siteverify",
    "SECKILL_GATEWAY_ATTESTATION_SECRET": "provider-secret",
}


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Set what a gateway needs, and these."""
    for name, value in (NEEDED | variables).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SECKILL_GATEWAY_CHALLENGE": "turnstile"}, "SECKILL_GATEWAY_CHALLENGE='turnstile': "),
        ({"SECKILL_GATEWAY_RISK_WEIGHTS": "adress=1"}, "'adress' is no signal"),
        ({"SECKILL_GATEWAY_RISK_REQUIRED_CLAIMS": "=x"}, "RISK_REQUIRED_CLAIMS='=x': "),
        (
            {"SECKILL_GATEWAY_RISK_ADDRESS_USERS_FREE": "60"},
            "SECKILL_GATEWAY_RISK_ADDRESS_USERS_FREE=60 must be less than",
        ),
        ({"SECKILL_GATEWAY_RISK_ADDRESS_USERS_FULL": "999"}, "ADDRESS_USERS_FULL='999': "),
        (
            ATTESTATION | {"SECKILL_GATEWAY_ATTESTATION_URL": ""},
            "needs SECKILL_GATEWAY_ATTESTATION_URL",
        ),
        (
            ATTESTATION | {"SECKILL_GATEWAY_ATTESTATION_URL": "http://provider.example"},
            "SECKILL_GATEWAY_ATTESTATION_URL must be https",
        ),
        (
            ATTESTATION | {"SECKILL_GATEWAY_ATTESTATION_SECRET": ""},
            "needs SECKILL_GATEWAY_ATTESTATION_SECRET",
        ),
    ],
)
def test_a_bad_setting_is_named(
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In one line without a secret, also if it is about several variables."""
    set_all(monkeypatch, variables)
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert TOKEN_SECRET not in line
    assert "provider-secret" not in line


def test_good_settings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attestation, weights, claims."""
    more = {
        "SECKILL_GATEWAY_RISK_WEIGHTS": "address=10,history=100",
        "SECKILL_GATEWAY_RISK_ELIGIBILITY_CLAIMS": "phone_number_verified,plan=gold",
    }
    set_all(monkeypatch, ATTESTATION | more)
    settings = load(GatewaySettings)
    assert settings.risk_scale().claims == 2
    assert settings.claim_reader().read({"plan": "gold"}, now_s=1.0).lacking == 1
