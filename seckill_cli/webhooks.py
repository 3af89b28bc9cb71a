"""`seckill webhook …`: look at webhook deliveries, redrive or drop dead ones."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from seckill.v1 import events_pb2
from seckill.v1 import order_admin_pb2 as pb
from seckill_cli import display
from seckill_cli.display import table
from seckill_cli.errors import CommandFailed
from seckill_cli.mesh import CALL_TIMEOUT_S, OrderOption
from seckill_cli.operators import Metadata, Refused, Stub, TokenOption, order_admin, settle_all

app = typer.Typer(
    help="Look at webhooks of order events and settle dead ones.", no_args_is_help=True
)
console = display.console()
PAGE_SIZE = 1_000
# What one call settles at most.
SETTLED_MAX = 1_000
STATE_PREFIX = "WEBHOOK_DELIVERY_STATE_"
EVENT_PREFIX = "ORDER_EVENT_TYPE_"

ID_MAX = 2**63 - 1
IdsArgument = Annotated[
    list[int] | None, typer.Argument(min=1, max=ID_MAX, help="Which deliveries, by number.")
]
EndpointOption = Annotated[str, typer.Option(help="All dead letters of this endpoint as well.")]


@app.command("list")
def list_deliveries(
    everything: Annotated[
        bool, typer.Option("--all", help="Those waiting and those dropped, too.")
    ] = False,
    endpoint: Annotated[str, typer.Option(help="Only this endpoint's.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """List dead letters, oldest first."""
    request = pb.ListWebhookDeliveriesRequest(
        endpoint=endpoint, only_dead=not everything, page_size=min(limit, PAGE_SIZE)
    )
    rows = table(("id", "endpoint", "event", "order", "state"), ("attempts", "answer", "error"))
    with order_admin(order, token) as (stub, metadata):
        for delivery in itertools.islice(_deliveries(stub, metadata, request), limit):
            rows.add_text(
                str(delivery.id),
                delivery.endpoint,
                _event(delivery.event_type),
                delivery.order_no,
                _state(delivery),
                str(delivery.attempts),
                str(delivery.answer or "-"),
                delivery.error,
            )
    console.print(rows)
    console.print(f"{rows.row_count} deliveries")


def _deliveries(
    stub: Stub, metadata: Metadata, request: pb.ListWebhookDeliveriesRequest
) -> Iterator[pb.WebhookDelivery]:
    request.page_size = request.page_size or PAGE_SIZE
    while True:
        page = stub.ListWebhookDeliveries(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
        yield from page.deliveries
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _state(delivery: pb.WebhookDelivery) -> str:
    return pb.WebhookDeliveryState.Name(delivery.state).removeprefix(STATE_PREFIX).lower()


def _event(kind: events_pb2.OrderEventType.ValueType) -> str:
    return events_pb2.OrderEventType.Name(kind).removeprefix(EVENT_PREFIX).lower()


@app.command()
def show(
    delivery: Annotated[int, typer.Argument(min=1, max=ID_MAX, help="Which delivery, by number.")],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Show everything about one delivery, with the event that it carries."""
    with order_admin(order, token) as (stub, metadata):
        found = stub.GetWebhookDelivery(
            pb.GetWebhookDeliveryRequest(id=delivery), metadata=metadata, timeout=CALL_TIMEOUT_S
        )
    facts = table(("",), ("",))
    facts.show_header = False
    for name, value in _facts(found.delivery):
        facts.add_text(name, value)
    console.print(facts)
    # JSON escapes control characters by itself, and its line ends are wanted.
    console.print(found.event_json, soft_wrap=True)


def _facts(delivery: pb.WebhookDelivery) -> Iterator[tuple[str, str]]:
    yield "endpoint", delivery.endpoint
    yield "state", _state(delivery)
    yield "event", f"{_event(delivery.event_type)} at {_moment(delivery.event_time)}"
    yield "attempts", str(delivery.attempts)
    if delivery.HasField("attempt_time"):
        yield "attempted at", _moment(delivery.attempt_time)
    if delivery.answer:
        yield "answer", str(delivery.answer)
    if delivery.error:
        yield "error", delivery.error
    if delivery.HasField("dead_time"):
        yield "dead at", _moment(delivery.dead_time)
    if delivery.HasField("drop_time"):
        yield "dropped at", _moment(delivery.drop_time)
        yield "dropped note", delivery.drop_note
    if delivery.HasField("due_time"):
        yield "next attempt", _moment(delivery.due_time)


@app.command()
def redrive(
    deliveries: IdsArgument = None,
    endpoint: EndpointOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Send dead letters again, once their cause is fixed."""
    with order_admin(order, token) as (stub, metadata):

        def settle(some: Sequence[int]) -> tuple[int, Sequence[Refused]]:
            request = pb.RedriveWebhookDeliveriesRequest(ids=some)
            done = stub.RedriveWebhookDeliveries(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
            return done.redriven_count, done.refused

        settle_all(
            SETTLED_MAX, "dead letters", settle, _chosen(stub, metadata, deliveries or [], endpoint)
        )


@app.command()
def drop(
    note: Annotated[str, typer.Option(help="Why nothing is to be done about them.")],
    deliveries: IdsArgument = None,
    endpoint: EndpointOption = "",
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Mark dead letters as dropped, with a reason."""
    with order_admin(order, token) as (stub, metadata):

        def settle(some: Sequence[int]) -> tuple[int, Sequence[Refused]]:
            request = pb.DropWebhookDeliveriesRequest(ids=some, note=note)
            done = stub.DropWebhookDeliveries(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
            return done.dropped_count, done.refused

        settle_all(
            SETTLED_MAX, "dead letters", settle, _chosen(stub, metadata, deliveries or [], endpoint)
        )


@app.command()
def endpoints(order: OrderOption = "", token: TokenOption = "") -> None:
    """List endpoints, and what they have not received yet."""
    rows = table(("endpoint", "state", "waiting", "oldest", "dead"), ("events",))
    with order_admin(order, token) as (stub, metadata):
        found = stub.ListWebhookEndpoints(
            pb.ListWebhookEndpointsRequest(), metadata=metadata, timeout=CALL_TIMEOUT_S
        )
    for endpoint in found.endpoints:
        state = "told" if endpoint.configured else "not configured"
        if endpoint.HasField("gone_time"):
            state = f"gone since {_moment(endpoint.gone_time)}"
        rows.add_text(
            endpoint.name,
            state,
            str(endpoint.waiting_count),
            f"{endpoint.oldest_age.ToSeconds()} s" if endpoint.HasField("oldest_age") else "-",
            str(endpoint.dead_count),
            ", ".join(map(_event, endpoint.event_types)),
        )
    console.print(rows)


@app.command()
def resume(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    order: OrderOption = "",
    token: TokenOption = "",
) -> None:
    """Send to an endpoint again that has answered 410 Gone."""
    with order_admin(order, token) as (stub, metadata):
        done = stub.ResumeWebhookEndpoint(
            pb.ResumeWebhookEndpointRequest(endpoint=endpoint),
            metadata=metadata,
            timeout=CALL_TIMEOUT_S,
        )
    if not done.resumed:
        raise CommandFailed(f"endpoint {endpoint} is not gone, or not known")
    console.print(f"{endpoint} is told again; redrive what died meanwhile")


def _chosen(stub: Stub, metadata: Metadata, named: list[int], endpoint: str) -> list[int]:
    """Return the deliveries named, and the endpoint's dead ones."""
    if not named and not endpoint:
        raise typer.BadParameter("name dead letters, or an --endpoint")
    ids = dict.fromkeys(named)
    if endpoint:
        request = pb.ListWebhookDeliveriesRequest(endpoint=endpoint, only_dead=True)
        ids |= dict.fromkeys(delivery.id for delivery in _deliveries(stub, metadata, request))
    return list(ids)


def _moment(stamp: Timestamp) -> str:
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
