"""The gate, off and on: how a sale's gateway is started, and what the sale asks of its buyers."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_bytes

from bench.bots.identities import ACCOUNT_CLAIM, FINGERPRINT_CLAIM, PHONE_CLAIM
from bench.bots.solving import DRILL_MAX_NUMBER
from gateway.settings import GatewaySettings

# Calls a second, which slow motion divides.
RATES = tuple(name for name in GatewaySettings.model_fields if name.startswith("gateway_rate_"))
BURSTS = tuple(name for name in GatewaySettings.model_fields if name.startswith("gateway_burst_"))
# Lives in seconds, which slow motion multiplies.
LIVES = ("gateway_token_ttl_s", "gateway_challenge_ttl_s")
# Scores from which on a buyer is challenged and refused (docs/gate.md).
CHALLENGE_AT, REFUSE_AT = 30, 70
# Orders that a buyer, or the buyers with one card, may have to pay.
UNPAID_ORDERS_MAX = 3
# Attempts at the last units that are let through, for each of them.
MULTIPLE = "gateway_admission_multiple"
SIGHTINGS_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One of the two.

    Attributes:
        name: "gate_off" or "gate_on".
        settings: SECKILL_ variables of the gateway, as slow motion needs them.
        challenge_at, refuse_at: the sale's policy; 0 is never.
        unpaid_orders_max: a limit that operators set; 0 is no cap.
        switched_on: what there is between the callers and the stock, before slow motion.
    """

    name: str
    settings: Mapping[str, str]
    challenge_at: int = 0
    refuse_at: int = 0
    unpaid_orders_max: int = 0
    switched_on: Mapping[str, str | float] = field(default_factory=dict)


def gates(slow: float, price: int) -> tuple[Gate, Gate]:
    """Return both, the gate that is off first.

    Args:
        slow: seconds of the machine for a second of the sale.
        price: of a challenge, as it is told; the gateway sets smaller ones (solving.py).
    """
    return _off(slow), _on(slow, price)


def _off(slow: float) -> Gate:
    """A gateway that asks for an identity and a purchase token, and nothing else."""
    return Gate(
        name="gate_off",
        settings=_variables({**dict.fromkeys((*RATES, MULTIPLE), 0.0), **_lives(slow)}),
        switched_on={"identity": "JWT", "gateway_token_ttl_s": _default("gateway_token_ttl_s")},
    )


def _on(slow: float, price: int) -> Gate:
    """A gateway with its default limits, and a sale that looks at risk."""
    rates = {name: _default(name) for name in RATES}
    bursts = {name: _default(name) for name in BURSTS}
    signals = {
        "gateway_risk_account_claim": ACCOUNT_CLAIM,
        "gateway_risk_fingerprint_claim": FINGERPRINT_CLAIM,
        "gateway_risk_eligibility_claims": PHONE_CLAIM,
    }
    return Gate(
        name="gate_on",
        settings=_variables(
            {
                **{name: rate / slow for name, rate in rates.items()},
                **{name: int(burst) for name, burst in bursts.items()},
                **_lives(slow),
                **signals,
                MULTIPLE: _default(MULTIPLE),
                "gateway_challenge_max_number": DRILL_MAX_NUMBER,
                # With it the cap knows which orders were bought with one card.
                "gateway_sightings_key": b64encode(token_bytes(SIGHTINGS_KEY_BYTES)).decode(),
            }
        ),
        challenge_at=CHALLENGE_AT,
        refuse_at=REFUSE_AT,
        unpaid_orders_max=UNPAID_ORDERS_MAX,
        switched_on={
            **_off(slow).switched_on,
            **{name: rate for name, rate in rates.items() if rate},
            **{name: burst for name, burst in bursts.items() if rates[_rate_of(name)]},
            **signals,
            "gateway_risk_weights": GatewaySettings.model_fields["gateway_risk_weights"].default,
            MULTIPLE: _default(MULTIPLE),
            "gateway_challenge_max_number": price,
            "challenge_at": CHALLENGE_AT,
            "refuse_at": REFUSE_AT,
            "unpaid_orders_max": UNPAID_ORDERS_MAX,
        },
    )


def _rate_of(burst: str) -> str:
    return burst.replace("_burst_", "_rate_")


def _default(name: str) -> float:
    return float(GatewaySettings.model_fields[name].default)


def _lives(slow: float) -> dict[str, float]:
    return {name: _default(name) * slow for name in LIVES}


def _variables(settings: Mapping[str, str | float]) -> dict[str, str]:
    return {f"SECKILL_{name.upper()}": str(value) for name, value in settings.items()}
