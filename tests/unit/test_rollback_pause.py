"""How long rollback_svc waits between rounds."""

import random

import pytest
from pydantic import SecretStr, ValidationError

from rollback_svc.settings import RollbackSettings
from rollback_svc.sweeper import pause_s
from seckill.validation import BATCH_MAX

UNUSED = SecretStr("redis://unused")
SETTINGS = RollbackSettings(redis_url=UNUSED, rollback_interval_s=1.0, rollback_backoff_max_s=10.0)


def pauses(failures: int) -> list[float]:
    rng = random.Random(7)
    return [pause_s(SETTINGS, failures=failures, rng=rng) for _ in range(200)]


def test_a_round_that_went_well_is_followed_by_the_interval_give_or_take_a_tenth() -> None:
    """Replicas that start together drift apart."""
    seen = pauses(0)
    assert min(seen) >= 0.9
    assert max(seen) <= 1.1
    assert len(set(seen)) > 100


def test_pauses_grow_with_each_failure_up_to_the_bound() -> None:
    """A stage that is away is asked less and less, but never given up."""
    assert all(1.8 <= pause <= 2.2 for pause in pauses(1))
    assert all(3.6 <= pause <= 4.4 for pause in pauses(2))
    assert all(9.0 <= pause <= 11.0 for pause in pauses(5_000))


def test_a_page_beyond_what_the_contract_allows_is_refused() -> None:
    """CancelExpired takes at most 1,024 orders, so a larger page could never work."""
    with pytest.raises(ValidationError, match="rollback_page_size"):
        RollbackSettings(redis_url=UNUSED, rollback_page_size=BATCH_MAX + 1)
