"""Handles ExplainOrders."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from order_svc.intake.dead_letter_queue import DeadLetterQueue
from order_svc.intake.dead_letter_topic import StoredDeadLetter
from order_svc.stories.repository import StoryRepository
from seckill.errors import DependencyUnavailable
from seckill.v1 import order_admin_pb2 as pb
from seckill.v1 import story_pb2
from seckill.validation import Violations

# Dead letters told of all orders together.
LETTERS_MAX = 100
# Characters of a header that are told.
HEADER_CHARACTERS_MAX = 300


class StoryHandlers:
    """Tells stories of orders from the database and the dead-letter topic."""

    def __init__(self, stories: StoryRepository, letters: DeadLetterQueue) -> None:
        self._stories = stories
        self._letters = letters

    async def explain(self, request: pb.ExplainOrdersRequest) -> pb.ExplainOrdersResponse:
        """Handle ExplainOrders; a store that does not answer is named, the other one told of."""
        _check(request)
        response = pb.ExplainOrdersResponse()
        order_nos = [request.order_no] if request.order_no else []
        try:
            if request.user_id:
                order_nos, response.more = await self._stories.orders_of(request.user_id)
            events, buyers = await self._stories.read(order_nos)
        except DependencyUnavailable as error:
            response.unread.append(f"postgres: {error}")
        else:
            response.events.extend(events)
            response.buyers.extend(buyers)
        try:
            letters = await self._letters.of_orders(set(order_nos), limit=LETTERS_MAX)
        except DependencyUnavailable as error:
            response.unread.append(f"kafka: {error}")
        else:
            response.events.extend(_events(letters))
        return response


def _check(request: pb.ExplainOrdersRequest) -> None:
    violations = Violations()
    if bool(request.order_no) == bool(request.user_id):
        violations.add("order_no", "must be set, or else user_id, and not both")
    if request.order_no:
        violations.order_no("order_no", request.order_no)
    if request.user_id:
        violations.user_id("user_id", request.user_id)
    violations.check()


def _events(letters: Sequence[StoredDeadLetter]) -> Iterator[story_pb2.StoryEvent]:
    for letter in letters:
        cause = letter.header("error_cause") or letter.header("ce_type")
        text = f"letter {letter.position}: {cause}: {letter.header('error')}"
        if advice := letter.header("advice"):
            text += f"; {advice}"
        event = story_pb2.StoryEvent(
            store=story_pb2.STORY_STORE_KAFKA,
            kind="dead letter",
            order_no=letter.header("order_no"),
            sku=letter.header("sku"),
            text=text[:HEADER_CHARACTERS_MAX],
        )
        event.time.FromMilliseconds(letter.written_ms)
        yield event
        if (done := letter.settlement) is not None:
            settled = story_pb2.StoryEvent(
                store=story_pb2.STORY_STORE_KAFKA,
                kind=f"dead letter {done.action}",
                order_no=letter.header("order_no"),
                sku=letter.header("sku"),
                text=f"letter {letter.position}, by {done.operator or 'an operator'} at {done.at}:"
                f" {done.note}"[:HEADER_CHARACTERS_MAX],
            )
            with suppress(ValueError):
                settled.time.FromJsonString(done.at)
            yield settled
