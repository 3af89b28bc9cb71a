"""Settings of the order database."""

from seckill.runtime.settings import CONFIG, Count, Seconds
from seckill.runtime.store_settings import PostgresSettings


class DatabaseSettings(PostgresSettings):
    """How the order service uses its database."""

    model_config = CONFIG

    # How long to wait at start for a database that is up and migrated.
    order_schema_timeout_s: Seconds = 30.0
    # How often a transaction is repeated after a deadlock before the caller is told.
    order_conflict_retries_max: Count = 5
    # Pause after a store did not answer; doubles up to the second.
    order_backoff_min_s: Seconds = 0.1
    order_backoff_max_s: Seconds = 5.0
