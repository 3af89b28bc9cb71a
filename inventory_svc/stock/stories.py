"""What Redis has on one buyer: their holds, and which of them are still on their way to Kafka."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inventory_svc.buckets.layouts import Layouts
from inventory_svc.keys import past_key, users_key
from inventory_svc.outbox.streams import OutboxStreams
from inventory_svc.stock.hold import parse_hold, parse_past
from seckill.buckets import home_of
from seckill.order_no import is_order_no, made_at_s
from seckill.runtime.redis_client import redis_faults
from seckill.v1 import inventory_pb2, story_pb2

if TYPE_CHECKING:
    import redis.asyncio

# Sales asked by one pipeline.
SALES_CHUNK = 500


class BuyerStories:
    """Reads holds buyer by buyer. DependencyUnavailable if Redis does not answer."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        streams: OutboxStreams,
        layouts: Layouts | None = None,
    ) -> None:
        """`layouts`: which sales have several buckets, as the whole process knows it."""
        self._redis = client
        self._streams = streams
        self._layouts = layouts or Layouts(client)

    async def of_buyer(self, user_id: str, skus: Sequence[str]) -> list[story_pb2.StoryEvent]:
        """Return the buyer's holds in these sales, earlier ones first, sale by sale."""
        events: list[story_pb2.StoryEvent] = []
        for start in range(0, len(skus), SALES_CHUNK):
            chunk = skus[start : start + SALES_CHUNK]
            await self._layouts.learn(chunk)
            pipeline = self._redis.pipeline(transaction=False)
            for sku in chunk:
                tags = self._layouts.tags(sku)
                home = tags[home_of(user_id, len(tags))]
                pipeline.hget(users_key(home), user_id)
                pipeline.hget(past_key(home), user_id)
            with redis_faults():
                replies: list[Any] = await pipeline.execute()
            for sku, held, past in zip(chunk, replies[0::2], replies[1::2], strict=True):
                events += [_event(sku, hold, "held before") for hold in _past(user_id, past)]
                if held:
                    events += await self._present(sku, parse_hold(user_id.encode(), held))
        return events

    async def _present(self, sku: str, hold: inventory_pb2.Hold) -> list[story_pb2.StoryEvent]:
        found = [_event(sku, hold, "tombstone" if hold.released else "held")]
        if not hold.released and hold.order_no in await self._streams.numbers(sku):
            found.append(
                story_pb2.StoryEvent(
                    time=found[0].time,
                    store=story_pb2.STORY_STORE_REDIS,
                    kind="in the outbox",
                    order_no=hold.order_no,
                    sku=sku,
                    text="the reservation waits for Kafka since then",
                )
            )
        return found


def _past(user_id: str, text: bytes | None) -> list[inventory_pb2.Hold]:
    """Return earlier holds, the earliest first."""
    return parse_past(user_id.encode(), text or b"")[::-1]


def _event(sku: str, hold: inventory_pb2.Hold, kind: str) -> story_pb2.StoryEvent:
    units = f"{hold.quantity} unit{'s' if hold.quantity > 1 else ''}"
    texts = {
        "held": f"{units} promised, and held since then",
        "tombstone": f"{units} promised then, and given back since; repeats are still answered",
        "held before": f"{units} promised then; the buyer has bought again since",
    }
    text = texts[kind]
    if hold.rejected:
        text += "; the mesh rejected the order, which does not count against the buyer"
    event = story_pb2.StoryEvent(
        store=story_pb2.STORY_STORE_REDIS,
        kind=kind,
        order_no=hold.order_no,
        sku=sku,
        text=f"{text}; request id {hold.request_id}",
    )
    if is_order_no(hold.order_no):
        event.time.FromMilliseconds(int(made_at_s(hold.order_no) * 1000))
    return event
