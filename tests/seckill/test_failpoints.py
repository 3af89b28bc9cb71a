"""Failpoints act at the n-th time, once."""

from collections.abc import Iterator

import pytest

from seckill.runtime import failpoints


@pytest.fixture(autouse=True)
def disarm() -> Iterator[None]:
    """Leave nothing armed behind."""
    yield
    failpoints.arm("")


async def test_a_failpoint_acts_at_its_time_and_never_again() -> None:
    """The second time, not the first, not the third."""
    failpoints.arm("relay.after_ack:2:raise")
    await failpoints.reach("relay.after_ack")
    await failpoints.reach("another")
    with pytest.raises(failpoints.FailpointReached, match=r"relay\.after_ack"):
        await failpoints.reach("relay.after_ack")
    await failpoints.reach("relay.after_ack")


@pytest.mark.parametrize("text", ["a", "a:1", "a:0:kill", "a:x:kill", ":1:kill", "a:1:explode"])
def test_what_is_no_failpoint_is_quoted(text: str) -> None:
    """So that a typing error does not pass for a fault that nothing came of."""
    with pytest.raises(ValueError, match=repr(text)):
        failpoints.parse(text)
