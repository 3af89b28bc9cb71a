"""`seckill explain`: one buyer's whole story, from all stores, in order of time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import grpc
import typer

from seckill.order_no import is_order_no, made_at_s
from seckill.v1 import (
    inventory_pb2,
    inventory_pb2_grpc,
    order_admin_pb2,
    rollback_pb2,
    rollback_pb2_grpc,
    story_pb2,
)
from seckill.v1.story_pb2 import StoryEvent
from seckill_cli import display
from seckill_cli.display import shown, table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import (
    CALL_TIMEOUT_S,
    InventoryOption,
    OrderOption,
    RollbackOption,
    channel_to,
)
from seckill_cli.operators import TokenOption, order_admin, status_line

console = display.console()
STORE_PREFIX = "STORY_STORE_"
# A dead-letter topic that is full takes its time, and so do the holds of a large sale.
SEARCH_TIMEOUT_S = 60.0
PAGE_SIZE = 1_000
DELAYS_MAX = 1_000


@dataclass
class Story:
    """What the services tell.

    Attributes:
        unread: what could not be read, each with the reason.
    """

    events: list[StoryEvent] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def order_nos(self) -> list[str]:
        """The orders that it is about, each once."""
        return list(dict.fromkeys(event.order_no for event in self.events if event.order_no))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Go on without this part if its service or a store behind it does not answer."""
        try:
            yield
        except grpc.RpcError as error:
            self.unread.append(f"{name}: {status_line(error)}")
        except CommandFailed as error:
            self.unread.append(f"{name}: {error}")


def explain(
    order_or_user: Annotated[
        str, typer.Argument(metavar="ORDER|USER", help="Number of an order, or id of a buyer.")
    ],
    inventory: InventoryOption = "",
    order: OrderOption = "",
    rollback: RollbackOption = "",
    token: TokenOption = "",
) -> None:
    """Tell one order's story, or that of a buyer's latest orders; exits with 1 without any."""
    story = Story()
    is_order = is_order_no(order_or_user)
    request = order_admin_pb2.ExplainOrdersRequest(
        order_no=order_or_user if is_order else "", user_id="" if is_order else order_or_user
    )
    with order_admin(order, token) as (stub, metadata):
        answer = stub.ExplainOrders(request, metadata=metadata, timeout=SEARCH_TIMEOUT_S)
    story.events += answer.events
    story.unread += answer.unread
    buyers = [(buyer.user_id, buyer.sku) for buyer in answer.buyers]
    with story.part("inventory (holds in redis)"):
        _add_holds(story, inventory, order_or_user, buyers, is_order=is_order)
    with story.part("rollback (the delay set)"):
        _add_delays(story, rollback)
    if is_order:
        story.events = [event for event in story.events if event.order_no == order_or_user]
    _show(story, order_or_user, more=answer.more)


def _add_holds(
    story: Story, inventory: str, wanted: str, buyers: list[tuple[str, str]], *, is_order: bool
) -> None:
    """Add what Redis has on the buyers; of an order that the database lacks, look for the buyer."""
    with channel_to("inventory", inventory) as channel:
        stub = inventory_pb2_grpc.InventoryServiceStub(channel)
        if not is_order:
            buyers = [(wanted, "")]
        elif not buyers:
            buyers = list(_holders_of(stub, wanted))
        for user_id, sku in buyers:
            request = inventory_pb2.ExplainHoldsRequest(user_id=user_id, sku=sku)
            story.events += stub.ExplainHolds(request, timeout=CALL_TIMEOUT_S).events


def _holders_of(
    stub: "inventory_pb2_grpc.InventoryServiceStub", order_no: str
) -> Iterator[tuple[str, str]]:
    """Yield the buyer and sale of a hold that names the order: all holds are looked through."""
    request = inventory_pb2.ListSalesRequest(page_size=PAGE_SIZE)
    while True:
        page = stub.ListSales(request, timeout=CALL_TIMEOUT_S)
        for sale in page.sales:
            if sale.loaded:
                yield from _holders_in(stub, sale.terms.sku, order_no)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _holders_in(
    stub: "inventory_pb2_grpc.InventoryServiceStub", sku: str, order_no: str
) -> Iterator[tuple[str, str]]:
    request = inventory_pb2.ListHoldsRequest(sku=sku)
    for part in stub.ListHolds(request, timeout=SEARCH_TIMEOUT_S):
        for hold in part.holds:
            if hold.order_no == order_no:
                yield hold.user_id, sku


def _add_delays(story: Story, rollback: str) -> None:
    numbers = [number for number in story.order_nos if is_order_no(number)][:DELAYS_MAX]
    if not numbers:
        return
    with channel_to("rollback", rollback) as channel:
        story.events += (
            rollback_pb2_grpc.RollbackServiceStub(channel)
            .ExplainDelays(
                rollback_pb2.ExplainDelaysRequest(order_nos=numbers), timeout=CALL_TIMEOUT_S
            )
            .events
        )


def _show(story: Story, wanted: str, *, more: bool) -> None:
    events = sorted(_with_attempts(story), key=_when)
    several = len(story.order_nos) > 1
    rows = table(("time", "store", "what", *(("order",) if several else ())), ("story", "call"))
    for event in events:
        store = story_pb2.StoryStore.Name(event.store).removeprefix(STORE_PREFIX).lower()
        rows.add_text(
            _moment(event),
            store if event.store else "number",
            event.kind,
            *((event.order_no,) if several else ()),
            event.text,
            event.call_id,
        )
    if events:
        console.print(rows)
    if more:
        console.print("there are older orders: `seckill order list --user …` names them")
    for reason in story.unread:
        console.print(f"not read: {shown(reason)}")
    if not events:
        console.print(f"nothing is on record of {shown(wanted)}")
        raise typer.Exit(1)


def _with_attempts(story: Story) -> Iterable[StoryEvent]:
    """Add what the order numbers themselves tell: when inventory decided."""
    yield from story.events
    for number in filter(is_order_no, story.order_nos):
        event = StoryEvent(
            kind="attempt decided", order_no=number, text="RESERVED; the number was made then"
        )
        event.time.FromMilliseconds(int(made_at_s(number) * 1000))
        yield event


def _when(event: StoryEvent) -> tuple[bool, int, bool]:
    """Sort by time; what has none comes last, and what decided an attempt first of its moment."""
    known = event.HasField("time")
    return not known, event.time.ToNanoseconds() if known else 0, event.store != 0


def _moment(event: StoryEvent) -> str:
    """Return the local time to the millisecond, with its offset; "-" without one."""
    if not event.HasField("time"):
        return "-"
    try:
        when = event.time.ToDatetime(UTC).astimezone()
    except (ValueError, OverflowError):
        return f"{event.time.seconds} s after 1970"
    return datetime.isoformat(when, sep=" ", timespec="milliseconds")
