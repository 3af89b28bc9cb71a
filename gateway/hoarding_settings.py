"""Settings against hoarding (docs/gate.md)."""

from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from gateway.keyed_hashes import parse_key
from seckill.runtime.settings import CONFIG, ProcessSettings, Seconds

DAY_S = 86_400.0


class HoardingSettings(ProcessSettings):
    """How many buyers are let through for what remains, and what is known of them."""

    model_config = CONFIG

    # Attempts at a sale that may be under way at once, for each unit that remains of it, beside one
    # batch; the others are told ADMISSION_FULL. 0: no such limit. A sale's policy may differ. A
    # hundred concerns a sale's last hundred units: before, gateway_waiting_max is reached first.
    gateway_admission_multiple: Annotated[float, Field(ge=0, le=1_000)] = 100.0

    # How far back orders count that were paid, or were not.
    gateway_history_days: Annotated[float, Field(gt=0, le=400)] = 30.0
    # How long what is known of a buyer's orders is used again.
    gateway_history_kept_s: Seconds = 2.0
    # Longest time to ask for it.
    gateway_history_timeout_s: Seconds = 1.0

    # Base64 of 32 to 64 random bytes, the same for all gateways. With it, order_svc is told from
    # where each order was reserved: hashes, with this key, of the address and of the payment
    # fingerprint (gateway_risk_fingerprint_claim). Empty: nothing is told, so `seckill sale review`
    # knows only times, and the cap on unpaid orders looks at users only.
    gateway_sightings_key: SecretStr = SecretStr("")

    @field_validator("gateway_sightings_key")
    @classmethod
    def _sightings_key_parses(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        parse_key(value.get_secret_value(), production=info.data.get("profile") == "production")
        return value

    def sightings_key(self) -> bytes:
        """The key of sightings; empty for none."""
        return parse_key(self.gateway_sightings_key.get_secret_value(), production=False)
