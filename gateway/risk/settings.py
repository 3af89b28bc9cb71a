"""Settings of risk and challenges (docs/gate.md). A sale uses them once its policy asks for it."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.risk.claims import ClaimReader, parse_eligibility
from gateway.risk.crowds import USERS_MAX
from gateway.risk.signals import DEFAULT_WEIGHTS, Scale, parse_weights
from seckill.runtime.jwks import is_url
from seckill.runtime.settings import CONFIG, Count, ProcessSettings, Seconds

DAY_S = 86_400.0
Users = Annotated[int, Field(ge=1, le=USERS_MAX)]


class RiskSettings(ProcessSettings):
    """How the risk of a caller is weighed, and what a doubtful one has to show."""

    model_config = CONFIG

    # Points, 0 to 100, that each signal adds to the score at most: address (many users behind one),
    # fingerprint (many users with one means of payment), age (of the account), eligibility (claims
    # that are not held), history (unpaid orders). A signal that is left out adds nothing.
    gateway_risk_weights: str = DEFAULT_WEIGHTS
    # Users are counted for half of this time at least, and for all of it at most.
    gateway_risk_window_s: Seconds = 600.0
    # Up to so many users behind one address (IPv6: its /64) say nothing; counted by this process.
    gateway_risk_address_users_free: Users = 5
    # From so many on the signal is at its highest.
    gateway_risk_address_users_full: Users = 50
    # The same for users with one payment fingerprint.
    gateway_risk_fingerprint_users_free: Users = 2
    gateway_risk_fingerprint_users_full: Users = 6
    # From this age on an account is no young one.
    gateway_risk_account_age_days: Annotated[float, Field(gt=0, le=36_500)] = 30.0
    # So many unpaid orders, with none that was paid, put the signal at its highest.
    gateway_risk_unpaid_full: Count = 3
    # Claim of the JWT with the Unix time at which the account was opened; empty: not looked at.
    gateway_risk_account_claim: str = ""
    # Claim of the JWT with a fingerprint of the means of payment; empty: not looked at.
    gateway_risk_fingerprint_claim: str = ""
    # Claims that speak for a user, comma-separated: name (it is true) or name=text (it is this text
    # or lists it), e.g. "phone_number_verified,plan=member".
    gateway_risk_eligibility_claims: str = ""
    # Claims without which the score is 100, written likewise.
    gateway_risk_required_claims: str = ""
    # Addresses and fingerprints whose users are counted, of each kind; about 200 bytes each.
    gateway_risk_keys_max: Count = 32_768
    # Last decisions in memory, for ExplainRisk; about 500 bytes each.
    gateway_risk_decisions_max: Count = 8_192

    # What a doubtful caller has to show: a solution that was computed, or a provider's attestation.
    gateway_challenge: Literal["proof_of_work", "attestation"] = "proof_of_work"
    # How long a challenge may be solved.
    gateway_challenge_ttl_s: Annotated[float, Field(ge=5, le=3_600)] = 60.0
    # The price of a proof of work: half as many hashes on average.
    gateway_challenge_max_number: Annotated[int, Field(ge=1_000, le=1_000_000_000)] = 200_000
    # Solutions that were used, kept until they expire, about 120 bytes each. If there are more, no
    # further ones count before that.
    gateway_challenge_spent_max: Count = 32_768
    # Where attestations are verified, as Turnstile's siteverify does it; https in production.
    gateway_attestation_url: str = ""
    # Our secret at the provider.
    gateway_attestation_secret: SecretStr = SecretStr("")
    # Public key that the page gives the provider's widget.
    gateway_attestation_site_key: str = ""
    # Whether the provider's answer must repeat our customer data (`cdata`), which ties an
    # attestation to a buyer and a sku. Turnstile does; off for those who do not.
    gateway_attestation_bound: bool = True
    # A verification that takes longer has failed; the caller is asked to try again.
    gateway_attestation_timeout_s: Seconds = 3.0
    # Verifications at once.
    gateway_attestation_in_flight_max: Count = 256

    @field_validator("gateway_risk_weights")
    @classmethod
    def _weights_parse(cls, value: str) -> str:
        parse_weights(value)
        return value

    @field_validator("gateway_risk_eligibility_claims", "gateway_risk_required_claims")
    @classmethod
    def _claims_parse(cls, value: str) -> str:
        parse_eligibility(value)
        return value

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> Self:
        for kind in ("address", "fingerprint"):
            free = getattr(self, f"gateway_risk_{kind}_users_free")
            full = getattr(self, f"gateway_risk_{kind}_users_full")
            if free >= full:
                name = f"SECKILL_GATEWAY_RISK_{kind.upper()}_USERS"
                raise ValueError(f"{name}_FREE={free} must be less than {name}_FULL={full}")
        return self

    @model_validator(mode="after")
    def _attestation_is_whole(self) -> Self:
        if self.gateway_challenge != "attestation":
            return self
        if not is_url(self.gateway_attestation_url):
            raise ValueError(
                "SECKILL_GATEWAY_CHALLENGE=attestation needs SECKILL_GATEWAY_ATTESTATION_URL,"
                " an http(s) address"
            )
        if self.profile == "production" and not self.gateway_attestation_url.startswith("https://"):
            raise ValueError(
                "SECKILL_GATEWAY_ATTESTATION_URL must be https in the production profile"
            )
        if not self.gateway_attestation_secret.get_secret_value():
            raise ValueError(
                "SECKILL_GATEWAY_CHALLENGE=attestation needs SECKILL_GATEWAY_ATTESTATION_SECRET"
            )
        return self

    def risk_scale(self) -> Scale:
        """Where the signals begin and end."""
        return Scale(
            address_users=(
                self.gateway_risk_address_users_free,
                self.gateway_risk_address_users_full,
            ),
            fingerprint_users=(
                self.gateway_risk_fingerprint_users_free,
                self.gateway_risk_fingerprint_users_full,
            ),
            account_age_s=self.gateway_risk_account_age_days * DAY_S,
            unpaid=self.gateway_risk_unpaid_full,
            claims=len(parse_eligibility(self.gateway_risk_eligibility_claims)),
        )

    def claim_reader(self) -> ClaimReader:
        """What reads the claims that these settings name."""
        return ClaimReader(
            account_from=self.gateway_risk_account_claim,
            fingerprint=self.gateway_risk_fingerprint_claim,
            eligibility=parse_eligibility(self.gateway_risk_eligibility_claims),
            required=parse_eligibility(self.gateway_risk_required_claims),
        )
