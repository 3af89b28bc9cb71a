"""What rollback_svc is told from outside."""

from typing import Annotated

from pydantic import Field

from seckill.settings import Count, Listen, ProcessSettings, RedisSettings, Seconds
from seckill.validation import BATCH_MAX


class RollbackSettings(ProcessSettings, RedisSettings):
    """Settings of rollback_svc."""

    rollback_listen: Listen = "0.0.0.0:50054"
    rollback_metrics_listen: Listen = "0.0.0.0:9104"
    # Where the stages answer that it calls.
    order_target: str = "dns:///127.0.0.1:50053"
    inventory_target: str = "dns:///127.0.0.1:50052"
    # Pause between rounds, give or take a tenth, so that replicas do not march in step.
    rollback_interval_s: Seconds = 1.0
    # For how long orders are left to the replica that has claimed them: longer than the calls that
    # a page takes. Where a replica is overtaken its work is done twice, which changes nothing.
    rollback_lease_s: Annotated[float, Field(ge=0.01, le=3_600)] = 20.0
    # How often the database is asked for expired orders that the delay set has lost.
    rollback_database_interval_s: Seconds = 10.0
    # Orders cancelled, released and noted in one call each.
    rollback_page_size: Annotated[int, Field(ge=1, le=BATCH_MAX)] = 500
    # Pages that one phase of a round works through; what is left waits for the next round.
    rollback_pages_max: Count = 20
    # A call of another stage that takes longer has failed; its effect is unknown.
    rollback_call_timeout_s: Seconds = 5.0
    # How often all sales are compared with the database.
    rollback_reconcile_interval_s: Seconds = 60.0
    # Whether what is found then is repaired, as far as that can only sell less. What puts units on
    # sale is never repaired unless an operator says so.
    rollback_reconcile_repairs: bool = True
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
    # with them: whenever a row is written, its number is added anew.
    rollback_unknown_keep_s: Seconds = 3600.0
