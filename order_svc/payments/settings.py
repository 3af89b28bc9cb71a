"""Settings of payments (docs/payments.md)."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from order_svc.payments.model import PROVIDER, SANDBOX, UNKNOWN
from order_svc.payments.providers import SCHEMES
from seckill.runtime.settings import CONFIG, ProcessSettings

# While a secret is changed there are two.
SECRETS_MAX = 4
SECRET_CHARACTERS_MIN = 16


class ProviderConfiguration(BaseModel):
    """A payment provider that may send callbacks.

    Attributes:
        name: what the callback's path, the table and the command line call it.
        scheme: how it signs.
        secret: what it signs with; several, separated by spaces, all count.
    """

    # Messages of the validator would quote secrets.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=f"^{PROVIDER}$")]
    scheme: str
    secret: SecretStr

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, value: str) -> str:
        if value in (SANDBOX, UNKNOWN):
            raise ValueError("is reserved")
        return value

    @field_validator("scheme")
    @classmethod
    def _scheme_is_known(cls, value: str) -> str:
        if value not in SCHEMES:
            raise ValueError(f"must be one of {', '.join(SCHEMES)}")
        return value

    @field_validator("secret")
    @classmethod
    def _are_secrets(cls, value: SecretStr) -> SecretStr:
        secrets = value.get_secret_value().split()
        if not 1 <= len(secrets) <= SECRETS_MAX:
            raise ValueError(f"must be 1 to {SECRETS_MAX} secrets, separated by spaces")
        if any(len(secret) < SECRET_CHARACTERS_MIN for secret in secrets):
            raise ValueError(f"must have at least {SECRET_CHARACTERS_MIN} characters")
        return value

    def secrets(self) -> list[str]:
        """Return the secrets that may have signed."""
        return self.secret.get_secret_value().split()


_LIST = TypeAdapter(list[ProviderConfiguration])


def parse_providers(text: str) -> Mapping[str, ProviderConfiguration]:
    """Read a JSON list of providers, by name; an empty text has none.

    Raises:
        ValueError: says what is wrong and where, never quoting a value: secrets are among them.
    """
    if not text.strip():
        return {}
    try:
        providers = _LIST.validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False)
        raise ValueError(
            "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
        ) from None
    by_name = {provider.name: provider for provider in providers}
    if len(by_name) < len(providers):
        raise ValueError("two providers have the same name")
    return by_name


class PaymentSettings(ProcessSettings):
    """Which payment providers may send callbacks."""

    model_config = CONFIG

    # A JSON list of {"name", "scheme", "secret"}; scheme is standard-webhooks or stripe. Empty: no
    # provider is listened to.
    order_payment_providers: SecretStr = SecretStr("")

    @field_validator("order_payment_providers")
    @classmethod
    def _payment_providers_parse(cls, value: SecretStr) -> SecretStr:
        parse_providers(value.get_secret_value())
        return value

    def payment_providers(self) -> Mapping[str, ProviderConfiguration]:
        """Return the providers by name."""
        return parse_providers(self.order_payment_providers.get_secret_value())
