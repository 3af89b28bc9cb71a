"""Settings of webhooks (docs/webhooks.md)."""

from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from order_svc.db.settings import DatabaseSettings
from order_svc.webhooks.endpoints import Endpoint, parse_endpoints
from seckill.runtime.settings import CONFIG, Count, ProcessSettings, Seconds

# In seconds; up to a year.
Days = Annotated[float, Field(gt=0, le=366 * 86_400)]


class WebhookSettings(ProcessSettings, DatabaseSettings):
    """Who is told of order events by HTTP, and how patiently."""

    model_config = CONFIG

    # A JSON list of {"name", "url", "secret", "events"}; the last is optional. Empty: no endpoints.
    order_webhook_endpoints: SecretStr = SecretStr("")
    # For each endpoint: requests in flight, and how often the service looks for due deliveries.
    order_webhook_concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    order_webhook_interval_s: Seconds = 0.5
    # How long an endpoint may take to answer.
    order_webhook_timeout_s: Seconds = 10.0
    # After this time another replica may claim what a replica that died was sending. An attempt and
    # the record of it must fit in, else two replicas send the same delivery.
    order_webhook_lease_s: Annotated[Seconds, Field(validate_default=True)] = 30.0
    # Pause after a failed attempt; doubles up to the second, shortened by up to a half at random so
    # that retries do not come all at once.
    order_webhook_backoff_min_s: Seconds = 5.0
    order_webhook_backoff_max_s: Seconds = 14_400.0
    # An endpoint that answers 429 or 503 with Retry-After is left alone for that long, but for no
    # longer than this.
    order_webhook_retry_after_max_s: Seconds = 900.0
    # When a delivery becomes a dead letter: after so many attempts (about a day), or at this age.
    order_webhook_attempts_max: Count = 20
    order_webhook_age_max_s: Days = 3 * 86_400.0
    # How long dead letters are kept.
    order_webhook_dead_keep_s: Days = 30 * 86_400.0
    # How often replicas register the endpoints of their settings, and count deliveries; and how
    # long an endpoint, or a kind of its events, is told of that no replica names any more.
    order_webhook_maintenance_interval_s: Seconds = 15.0
    order_webhook_retire_s: Seconds = 600.0
    # Connections to the database of their own: a slow endpoint takes none from the orders.
    order_webhook_connections_max: Count = 4

    @field_validator("order_webhook_endpoints")
    @classmethod
    def _webhook_endpoints_parse(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        _endpoints(value, profile=info.data.get("profile"))
        return value

    @field_validator("order_webhook_lease_s")
    @classmethod
    def _lease_outlasts_an_attempt(cls, value: float, info: ValidationInfo) -> float:
        timeout_s = info.data.get("order_webhook_timeout_s", 0.0)
        if value < 2 * timeout_s:
            raise ValueError(f"must be at least twice the timeout of {timeout_s:g} s")
        return value

    def webhook_endpoints(self) -> tuple[Endpoint, ...]:
        """Return the endpoints that are told of order events."""
        return _endpoints(self.order_webhook_endpoints, profile=self.profile)


def _endpoints(value: SecretStr, *, profile: str | None) -> tuple[Endpoint, ...]:
    return parse_endpoints(value.get_secret_value(), https_only=profile != "development")
