"""The checker compares what buyers were told with the stores, and excuses the test's tampering."""

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from seckill.client import Outcome, TryLater
from seckill.errors import DependencyUnavailable, OutcomeUnknown, SeckillError
from seckill.status import trailing_metadata
from seckill.v1 import gateway_pb2
from tests.kits.doors import DoorClient
from tests.kits.faults.buyers import Buyers
from tests.kits.faults.checker import check
from tests.kits.faults.example import (
    LEDGER,
    LIVE_NO,
    PAID_NO,
    RIGHT,
    attempt_of,
    changed,
    history_of_three,
)
from tests.kits.faults.history import History, is_refused


def refuse(history: History) -> None:
    """Make Ann's attempt fail without effect, although there is an order."""
    history.attempts[0] = attempt_of("ann", "a")
    history.attempts[0].failure = TryLater("too many calls wait", reason="OVERLOADED")


def answer_twice(history: History) -> None:
    """Answer one request of Ann's with two numbers."""
    history.note(attempt_of("ann", "a", Outcome.RESERVED, PAID_NO))


def promise_more(history: History) -> None:
    """Tell Dan a number that no row has."""
    history.attempts[3] = attempt_of("dan", "d", Outcome.RESERVED, "9" * 26)


def ask_again(history: History) -> None:
    """Answer Ann's request a second time as if it were another one."""
    history.note(attempt_of("ann", "a", Outcome.ALREADY_PURCHASED, LIVE_NO))


def name_another(history: History) -> None:
    """Tell Dan that Ann's order is theirs."""
    history.note(attempt_of("dan", "e", Outcome.ALREADY_PURCHASED, LIVE_NO))


def sell_what_is_lost(history: History) -> None:
    """Say that the sale was lost while all these numbers were made."""
    history.tampering.lost.append((0.0, 1e12))


def poison(history: History) -> None:
    """Say that a message was poisoned which is not among the dead letters."""
    history.tampering.poison = 1


def give_up(history: History) -> None:
    """Tell Bob that the paid order is cancelled."""
    history.cancelled.add(PAID_NO)


def refund(history: History) -> None:
    """Tell Bob that the payment is refunded."""
    history.refunded[PAID_NO] = True


@pytest.mark.parametrize(
    ("spoil", "letter", "sentence"),
    [
        (refuse, "L", "ann was refused without effect"),
        (answer_twice, "U", "was answered with"),
        (promise_more, "L", "dan was told"),
        (ask_again, "U", "was reserved, and then already purchased"),
        (name_another, "L", "which is another buyer's"),
        (sell_what_is_lost, "O", "was sold while the sale was lost"),
        (poison, "L", "1 of 1 poisoned messages are no dead letters"),
        (give_up, "L", "the confirmed cancellation"),
        (refund, "L", "the confirmed refund"),
    ],
)
def test_what_a_client_saw_must_fit_the_stores(
    spoil: Callable[[History], None], letter: str, sentence: str
) -> None:
    """The checker tells each contradiction between a history and the stores."""
    history = history_of_three()
    spoil(history)
    found = check(RIGHT, history)
    assert any(one.invariant == letter and sentence in one.sentence for one in found), found


def test_a_rejected_order_needs_a_reason() -> None:
    """A rejected order is legal if the test tampered with Redis, and a broken promise if not."""
    history = history_of_three()
    facts = changed(2, status="rejected")
    history.tampering.rejecting = False
    history.cancelled.clear()
    assert any("nothing was wrong with Redis" in str(one) for one in check(facts, history))
    history.tampering.rejecting = True
    assert not any("nothing was wrong" in str(one) for one in check(facts, history))


def test_what_the_test_itself_took_away_is_excused() -> None:
    """An order that the test made Redis forget may be missing, or get another number."""
    history = history_of_three()
    for number in ("9" * 26, "8" * 26):
        history.note(attempt_of("dan", "d", Outcome.RESERVED, number))
    assert len(check(RIGHT, history)) == 3
    history.tampering.forgotten = {"9" * 26, "8" * 26}
    assert check(RIGHT, history) == ()


def test_units_written_off_are_accounted_for() -> None:
    """An order that was refunded and written off keeps its units, hold and ledger rows."""
    history = history_of_three()
    del history.paid[PAID_NO]
    history.refunded[PAID_NO] = False
    facts = replace(
        changed(1, status="refunded"),
        ledger=(*LEDGER, (PAID_NO, "written_off", 1)),
        events=(RIGHT.events or frozenset()) | {(PAID_NO, "refunded")},
        shown={**(RIGHT.shown or {}), PAID_NO: "refunded"},
    )
    assert check(facts, history) == ()


class ClosedDoor:
    """A door whose purchases all end with the same error."""

    def __init__(self, error: SeckillError | None) -> None:
        """`error`: what the mesh says; None: the connection breaks."""
        trailing = trailing_metadata(error) if error else ()
        self._error = grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing)
        )

    async def IssuePurchaseToken(self, *_: object, **__: object) -> object:
        """Answer with a token."""
        return gateway_pb2.IssuePurchaseTokenResponse(purchase_token="token")

    async def Purchase(self, *_: object, **__: object) -> object:
        """Raise the error."""
        raise self._error


@pytest.mark.parametrize(
    ("error", "refused"),
    [(None, False), (OutcomeUnknown(), False), (DependencyUnavailable("redis is away"), True)],
)
async def test_only_a_reason_promises_that_an_attempt_had_no_effect(
    error: SeckillError | None, refused: bool
) -> None:
    """An attempt is unknown after a broken connection, and refused only if a reason says so."""
    async with DoorClient(ClosedDoor(error)) as client:
        buyers = Buyers(client, "example")
        attempt = await buyers.attempt()
    assert (is_refused(attempt), attempt.unknown) == (refused, not refused)
    assert buyers.history.codes == {grpc.StatusCode.UNAVAILABLE}
    assert buyers.history.attempts == [attempt]
