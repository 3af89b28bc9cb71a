"""Settings of rollback_svc."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from seckill.runtime.settings import (
    ArrivalSettings,
    Count,
    Listen,
    ProcessSettings,
    SaleMetricsSettings,
    Seconds,
    Target,
)
from seckill.runtime.store_settings import RedisSettings
from seckill.validation import BATCH_MAX


class RollbackSettings(ProcessSettings, ArrivalSettings, SaleMetricsSettings, RedisSettings):
    """Environment variables SECKILL_ROLLBACK_… and those of the process and of Redis."""

    rollback_listen: Listen = "0.0.0.0:50054"
    rollback_metrics_listen: Listen = "0.0.0.0:9104"
    # Addresses of the services that it calls.
    order_target: Target = "dns:///127.0.0.1:50053"
    inventory_target: Target = "dns:///127.0.0.1:50052"
    # Pause between rounds, give or take a tenth, so that replicas do not march in step.
    rollback_interval_s: Seconds = 1.0
    # For how long orders are left to the replica that has claimed them: longer than the calls that
    # a page takes. If a replica is overtaken its work is done twice, which changes nothing.
    rollback_lease_s: Annotated[float, Field(ge=0.01, le=3_600)] = 20.0
    # How often the database is asked for expired orders that the delay set has lost.
    rollback_database_interval_s: Seconds = 10.0
    # Orders cancelled, released and noted in one call each.
    rollback_page_size: Annotated[int, Field(ge=1, le=BATCH_MAX)] = 500
    # Pages that one phase of a round works through; what is left waits for the next round.
    rollback_pages_max: Count = 20
    # A call of another service that takes longer has failed; its effect is unknown.
    rollback_call_timeout_s: Seconds = 5.0
    # How often all sales are compared with the database.
    rollback_reconcile_interval_s: Seconds = 60.0
    # Whether what is found then is repaired, as far as orders account for it. Units on sale that no
    # order accounts for are never repaired unless an operator says so.
    rollback_reconcile_repairs: bool = True
    # Whether that includes sending reservations that have lost their orders to Kafka once more.
    rollback_reconcile_sends: bool = True
    # Whether that includes releasing holds of ended orders, and removing these from the delay set.
    rollback_reconcile_releases: bool = True
    # Most orders that one round repairs, of all sales together; the rest waits for the next round.
    rollback_reconcile_repairs_max: Count = 5_000
    # How often a reservation that gets no order is sent again by itself, with a pause that doubles
    # each time from the age below.
    rollback_reconcile_sends_max: Count = 8
    # How long one comparison may take, the wait for the consumers included.
    rollback_reconcile_timeout_s: Seconds = 30.0
    # Holds and orders younger than this may be on their way and are not compared.
    rollback_reconcile_age_min_s: Seconds = 10.0
    # Holds of a sale kept in memory for a comparison, about 500 bytes each; larger sales are not
    # compared.
    rollback_reconcile_holds_max: Count = 200_000
    # Longest pause after rounds that failed; the pause doubles with each.
    rollback_backoff_max_s: Seconds = 10.0
    # Entries of the delay set that cannot be settled now are looked at again after this time.
    rollback_put_off_s: Seconds = 30.0
    # Numbers that the database does not know leave the delay set at this age. Nothing is lost
    # with them: whenever a row is written, its number is added again.
    rollback_unknown_keep_s: Seconds = 3600.0

    @model_validator(mode="after")
    def _lost_reservations_return_in_time(self) -> Self:
        """A buyer must not be told that there is no order while a lost one may still come back."""
        # Just too young for one round, found by the next at the end of its time.
        found_s = (
            self.rollback_reconcile_age_min_s
            + self.rollback_reconcile_interval_s
            + self.rollback_reconcile_timeout_s
        )
        if found_s > self.order_arrival_max_s:
            raise ValueError(
                "SECKILL_ROLLBACK_RECONCILE_INTERVAL_S, with ..._AGE_MIN_S and ..._TIMEOUT_S, is"
                f" {found_s:g}, more than SECKILL_ORDER_ARRIVAL_MAX_S, which is"
                f" {self.order_arrival_max_s:g}: lost reservations would come back after their"
                " buyers were told that there is no order"
            )
        return self
