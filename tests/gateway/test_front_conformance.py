"""One body for both fronts: what a real grpcio client sees of the gateway.

The gateway is wired as in production; the services behind it are small ones in memory.
"""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from seckill.order_no import make_order_nos
from seckill.runtime.purchase_tokens import PurchaseTokens, parse_keys
from seckill.runtime.settings import ArrivalSettings
from seckill.status import reason_of
from seckill.v1 import gateway_pb2, inventory_pb2, order_pb2
from tests.kits.factories import PRICE, new_id, sale_terms
from tests.kits.gateway import GatewayRig, details, failure, open_rig
from tests.kits.gateway_services import running_services
from tests.kits.waiting import eventually

SERVICE = "seckill.v1.GatewayService"
RESERVED = inventory_pb2.PURCHASE_OUTCOME_RESERVED
SOLD_OUT = inventory_pb2.PURCHASE_OUTCOME_SOLD_OUT
ALREADY_PURCHASED = inventory_pb2.PURCHASE_OUTCOME_ALREADY_PURCHASED
ORDER_NO = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_a_press_reserves_and_a_replay_gets_the_same_answer_after_sold_out(
    rig: GatewayRig,
) -> None:
    """The winner's repetition is RESERVED, a second attempt ALREADY_PURCHASED, others SOLD_OUT."""
    sku = rig.services.inventory.put(sale_terms(units=1))
    won = await rig.buy(sku, "winner", request_id="r-1")
    assert won.outcome == RESERVED
    for _ in range(3):
        assert (await rig.buy(sku, "late")).outcome == SOLD_OUT
        assert await rig.buy(sku, "winner", request_id="r-1") == won
        again = await rig.buy(sku, "winner", request_id="r-2")
        assert (again.outcome, again.order_no) == (ALREADY_PURCHASED, won.order_no)


async def test_after_sold_out_only_holders_are_asked_for(rig: GatewayRig) -> None:
    """All others are refused here; the winner's repetition still gets its number."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms(units=1))
    token = await rig.token(sku, "late")
    await rig.buy(sku, "winner")

    async def flag_is_up() -> bool:
        view = rig.gateway.sales.get(sku)
        return view is not None and view.sold_out and view.holders is not None

    await eventually(flag_is_up)
    asked = len(inventory.batches)
    answers = [await rig.buy(sku, "late", token=token) for _ in range(5)]
    assert [answer.outcome for answer in answers] == [SOLD_OUT] * 5
    assert len(inventory.batches) == asked
    assert (await rig.buy(sku, "winner")).outcome == ALREADY_PURCHASED
    assert len(inventory.batches) == asked + 1


async def test_a_restock_reaches_those_who_were_refused(rig: GatewayRig) -> None:
    """The memory of a refusal ends with the notice of the restock."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms(units=1))
    await rig.buy(sku, "first")
    assert (await rig.buy(sku, "late")).outcome == SOLD_OUT
    inventory.sales[sku].remaining_units = 1
    inventory.sales[sku].sold_out = False
    inventory.announce(sku)

    async def flag_is_down() -> bool:
        view = rig.gateway.sales.get(sku)
        return view is not None and not view.sold_out

    await eventually(flag_is_down)
    assert (await rig.buy(sku, "late")).outcome == RESERVED


async def test_everybody_in_a_crowd_gets_his_own_answer(front: str, tmp_path: Path) -> None:
    """10,000 calls, 100 winners with 100 numbers."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack,
            tmp_path,
            front,
            gateway_waiting_max=20_000,
            gateway_token_ttl_s=120,
            # A call that crosses the GOAWAY of an aged connection is CANCELLED by grpc.aio.
            connection_age_max_s=600,
        )
        sku = rig.services.inventory.put(sale_terms(units=100))
        tokens = await asyncio.gather(*(rig.token(sku, f"b-{n}") for n in range(1000)))
        answers = await asyncio.gather(
            *(
                rig.buy(
                    sku,
                    f"b-{n % 1000}",
                    request_id=f"r-{n % 1000}",
                    token=tokens[n % 1000],
                    timeout_s=60,
                )
                for n in range(10_000)
            )
        )
        reserved = [answer.order_no for answer in answers if answer.outcome == RESERVED]
        assert {answer.outcome for answer in answers} == {RESERVED, SOLD_OUT}
        assert len(reserved) == 1000
        assert len(set(reserved)) == 100


async def test_a_purchase_token_is_no_identity(front: str, tmp_path: Path) -> None:
    """Who has the key that signs purchase tokens still needs the buyer's own JWT, each time."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front)
        sku = rig.services.inventory.put(sale_terms())
        stolen = PurchaseTokens(parse_keys(rig.issuer.purchase_token_keys))
        garbage = "Bearer garbage"
        token = stolen.mint(
            "victim",
            sku,
            authorization=garbage.encode(),
            expire_ms=int((time.time() + 5) * 1000),
        )
        request = gateway_pb2.PurchaseRequest(sku=sku, purchase_token=token, request_id="r")
        for metadata, reason in (
            ((("authorization", garbage),), "IDENTITY_INVALID"),
            ((), "IDENTITY_MISSING"),
            (rig.identity("thief"), "PURCHASE_TOKEN_FOREIGN"),
        ):
            refused = await failure(rig.stub.Purchase(request, metadata=metadata))
            assert reason_of(refused) == reason
        assert not rig.services.inventory.holds


async def test_those_who_come_while_a_batch_is_under_way_are_the_next_one(
    front: str, tmp_path: Path
) -> None:
    """One batch is held back; the twenty attempts made meanwhile go together."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_batches_in_flight_max=1)
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=5))
        users = [f"b-{n}" for n in range(20)]
        tokens = [await rig.token(sku, user) for user in users]
        inventory.open.clear()
        first = asyncio.ensure_future(rig.buy(sku, "first"))
        await inventory.batch_arrived.wait()

        async def waiting() -> float:
            name, labels = "seckill_gateway_batch_waiting_count", {"service": "inventory"}
            return REGISTRY.get_sample_value(name, labels) or 0.0

        already = await waiting()
        crowd = [
            asyncio.ensure_future(rig.buy(sku, user, token=token))
            for user, token in zip(users, tokens, strict=True)
        ]

        await eventually(waiting, lambda count: count == already + len(users))
        inventory.open.set()
        answers = await asyncio.gather(first, *crowd)
        assert sorted(answer.outcome for answer in answers) == [RESERVED] * 5 + [SOLD_OUT] * 16
        assert inventory.batches == [1, 20]


async def test_refusals_carry_code_reason_and_details(rig: GatewayRig) -> None:
    """Missing identity, forged token, bad fields, unknown sale: each by its status and reason."""
    sku = rig.services.inventory.put(sale_terms())
    anonymous = await failure(
        rig.stub.IssuePurchaseToken(gateway_pb2.IssuePurchaseTokenRequest(sku=sku))
    )
    assert anonymous.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(anonymous) == "IDENTITY_MISSING"
    forged = await failure(rig.buy(sku, "buyer", token="AAAA"))
    assert forged.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(forged) == "PURCHASE_TOKEN_INVALID"
    bad = await failure(
        rig.stub.Purchase(
            gateway_pb2.PurchaseRequest(sku=sku, quantity=2, request_id="not printable\n")
        )
    )
    assert bad.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = [violation.field for violation in details(bad)["BadRequest"].field_violations]
    assert fields == ["request_id", "quantity"]
    unknown = await failure(rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku="no")))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    info = details(unknown)["ErrorInfo"]
    assert (info.reason, info.domain) == ("SALE_NOT_FOUND", "seckill")


async def test_haste_is_told_how_long_to_wait(front: str, tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, and QuotaFailure naming the bucket."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_rate_user=0.1, gateway_burst_user=2)
        sku = rig.services.inventory.put(sale_terms())
        assert (await rig.buy(sku, "hasty")).outcome == RESERVED
        refused = await failure(rig.token(sku, "hasty"))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        found = details(refused)
        assert found["ErrorInfo"].reason == "RATE_LIMITED"
        assert 0 < found["RetryInfo"].retry_delay.ToMilliseconds() <= 10_010
        assert found["QuotaFailure"].violations[0].subject == "user"
        assert await rig.token(sku, "patient")


async def test_forwarded_addresses_count_only_from_trusted_proxies(
    front: str, tmp_path: Path
) -> None:
    """Behind a trusted proxy each client has a bucket; the proxy's own exemption is not theirs."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(
            stack,
            tmp_path,
            front,
            gateway_trusted_proxies="127.0.0.0/8",
            gateway_rate_ip=0.1,
            gateway_burst_ip=1,
        )
        sku = rig.services.inventory.put(sale_terms())
        request = gateway_pb2.GatewayServiceGetSaleRequest(sku=sku)

        async def get(forwarded_for: str) -> None:
            await rig.stub.GetSale(request, metadata=(("x-forwarded-for", forwarded_for),))

        await get("192.0.2.1")
        await get("192.0.2.2")
        refused = await failure(get("9.9.9.9, 192.0.2.1"))
        assert reason_of(refused) == "RATE_LIMITED"


async def test_beyond_the_limit_of_calls_under_way_callers_are_refused_at_once(
    front: str, tmp_path: Path
) -> None:
    """While inventory holds ten calls, the eleventh is told to come back, and not kept."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_calls_max=10)
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=50))
        tokens = [await rig.token(sku, f"b-{n}") for n in range(11)]
        inventory.open.clear()
        held = [asyncio.ensure_future(rig.buy(sku, f"b-{n}", token=tokens[n])) for n in range(10)]
        await inventory.batch_arrived.wait()

        async def refusal() -> str | None:
            return reason_of(await failure(rig.buy(sku, "b-10", token=tokens[10], timeout_s=0.5)))

        await eventually(refusal, lambda reason: reason == "OVERLOADED")
        inventory.open.set()
        assert {answer.outcome for answer in await asyncio.gather(*held)} == {RESERVED}


async def test_a_deadline_ends_the_call_and_nothing_else(rig: GatewayRig) -> None:
    """DEADLINE_EXCEEDED in time while inventory is silent; the next call is served."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    token = await rig.token(sku, "buyer")
    inventory.open.clear()
    begun_s = time.monotonic()
    late = await failure(rig.buy(sku, "buyer", token=token, request_id="r", timeout_s=0.2))
    assert time.monotonic() - begun_s < 5.0
    assert late.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    inventory.open.set()
    assert (await rig.buy(sku, "buyer", token=token, request_id="r")).outcome == RESERVED


async def test_a_caller_who_leaves_while_waiting_is_not_reserved_for(
    front: str, tmp_path: Path
) -> None:
    """An attempt still in the queue when its caller cancels never reaches inventory."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front, gateway_batches_in_flight_max=1)
        inventory = rig.services.inventory
        sku = inventory.put(sale_terms(units=5))
        tokens = [await rig.token(sku, user) for user in ("first", "leaver", "last")]
        inventory.open.clear()
        first = asyncio.ensure_future(rig.buy(sku, "first", token=tokens[0]))
        await inventory.batch_arrived.wait()
        leaver = asyncio.ensure_future(rig.buy(sku, "leaver", token=tokens[1]))
        # A later call on the same connection that is answered: the one before has arrived.
        await rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku))
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        await rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku))
        inventory.open.set()
        assert (await first).outcome == RESERVED
        assert (await rig.buy(sku, "last", token=tokens[2])).outcome == RESERVED
        assert set(inventory.holds[sku]) == {"first", "last"}


async def test_a_batch_that_is_not_answered_is_sent_once_more(rig: GatewayRig) -> None:
    """While a replica of inventory stands still its buyers wait for a second, and are answered."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    token = await rig.token(sku, "buyer")
    inventory.open.clear()
    attempt = asyncio.ensure_future(rig.buy(sku, "buyer", token=token))
    for _ in range(2):
        await inventory.batch_arrived.wait()
        inventory.batch_arrived.clear()
    inventory.open.set()
    assert (await attempt).outcome == RESERVED
    assert len(inventory.holds[sku]) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"),
        (grpc.StatusCode.INTERNAL, "OUTCOME_UNKNOWN"),
    ],
)
async def test_a_lost_reply_is_an_unknown_outcome(
    rig: GatewayRig, code: grpc.StatusCode, reason: str
) -> None:
    """UNAVAILABLE with RetryInfo: the same request_id will tell."""
    sku = rig.services.inventory.put(sale_terms())
    rig.services.inventory.failure = code
    lost = await failure(rig.buy(sku, "buyer"))
    assert lost.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(lost) == reason
    assert "RetryInfo" in details(lost)


async def test_a_big_or_broken_message_is_refused_and_the_neighbours_are_served(
    rig: GatewayRig,
) -> None:
    """A megabyte of request, five of them, and bytes that are no message."""
    sku = rig.services.inventory.put(sale_terms())
    raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = rig.channel.unary_unary(
        f"/{SERVICE}/Purchase"
    )
    for payload in (b"\x0a\xff", b"x" * 1_000_000):
        error = await failure(raw(payload))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(error) == "INVALID_FIELD"
    error = await failure(raw(b"x" * 5_000_000))
    assert error.code() in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert (await rig.buy(sku, "buyer")).outcome == RESERVED


async def test_health_and_reflection_answer_on_the_same_port(rig: GatewayRig) -> None:
    """The service is listed with all of its methods, and is ready when it says so."""
    health = health_pb2_grpc.HealthStub(rig.channel)
    await rig.gateway.health.set_ready(True)
    for name in ("", SERVICE, "live"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    replies = [reply async for reply in reflection.ServerReflectionInfo(iter(asked))]
    listed = {service.name for service in replies[0].list_services_response.service}
    assert SERVICE in listed
    assert replies[1].file_descriptor_response.file_descriptor_proto
    nothing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = rig.channel.unary_unary(
        f"/{SERVICE}/NoSuchMethod"
    )
    unknown = await failure(nothing(b""))
    assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_methods_behind_work_through_the_same_port(rig: GatewayRig) -> None:
    """Pages of sales; an order watched, paid and cancelled by its owner."""
    skus = sorted(rig.services.inventory.put(sale_terms()) for _ in range(2))
    page = await rig.stub.ListSales(gateway_pb2.GatewayServiceListSalesRequest())
    assert [sale.terms.sku for sale in page.sales] == skus
    rig.services.orders.orders[ORDER_NO] = order_pb2.Order(order_no=ORDER_NO, user_id="owner")
    owner = rig.identity("owner")
    paid = await rig.stub.PayOrder(
        gateway_pb2.GatewayServicePayOrderRequest(
            order_no=ORDER_NO, payment_id="p-1", amount=PRICE
        ),
        metadata=owner,
    )
    assert paid.order.state == order_pb2.ORDER_STATE_PAID
    watch = gateway_pb2.GatewayServiceWatchOrderRequest(order_no=ORDER_NO)
    seen = [answer.order async for answer in rig.stub.WatchOrder(watch, metadata=owner)]
    assert [order.payment_id for order in seen] == ["p-1"]
    cancelled = await rig.stub.CancelOrder(
        gateway_pb2.GatewayServiceCancelOrderRequest(order_no=ORDER_NO), metadata=owner
    )
    assert cancelled.order.state == order_pb2.ORDER_STATE_CANCELLED
    stranger = rig.stub.WatchOrder(watch, metadata=rig.identity("stranger"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [answer async for answer in stranger]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_polling_reads_many_orders_at_once_and_shows_each_to_its_owner(
    rig: GatewayRig,
) -> None:
    """Bytes pass through; another buyer's order is as missing as one that does not exist."""
    orders = rig.services.orders
    numbers = [f"{n:026d}" for n in range(200)]
    for number in numbers:
        orders.orders[number] = order_pb2.Order(
            order_no=number, user_id=f"owner-{number}", request_id="r" * 64, sku="s" * 64
        )

    async def poll(number: str, user: str) -> order_pb2.Order:
        answer = await rig.stub.GetOrder(
            gateway_pb2.GatewayServiceGetOrderRequest(order_no=number),
            metadata=rig.identity(user),
        )
        return answer.order

    found = await asyncio.gather(*(poll(number, f"owner-{number}") for number in numbers))
    assert found == [orders.orders[number] for number in numbers]
    assert len(orders.batches) < len(numbers)
    foreign = await failure(poll(numbers[0], "stranger"))
    assert reason_of(foreign) == "ORDER_NOT_FOUND"
    arrival_max_s = ArrivalSettings().order_arrival_max_s
    for age_s, may_come in ((0.0, True), (arrival_max_s - 10, True), (arrival_max_s + 10, False)):
        (number,) = make_order_nos(["x"], now_s=time.time() - age_s, rng=random.Random())
        missing = await failure(poll(number, "owner"))
        assert reason_of(missing) == "ORDER_NOT_FOUND"
        assert ("RetryInfo" in details(missing)) is may_come


async def test_calls_are_counted_under_the_usual_names(rig: GatewayRig) -> None:
    """grpc_server_handled_total and its companions, by method and code, on either front."""

    def handled(code: str) -> float:
        labels = {
            "grpc_type": "unary",
            "grpc_service": SERVICE,
            "grpc_method": "GetSale",
            "grpc_code": code,
        }
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels) or 0.0

    sku = rig.services.inventory.put(sale_terms())
    before = handled("OK"), handled("NotFound")
    for _ in range(3):
        await rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku=sku))
    await failure(rig.stub.GetSale(gateway_pb2.GatewayServiceGetSaleRequest(sku="none")))

    async def counted() -> tuple[float, float]:
        return handled("OK") - before[0], handled("NotFound") - before[1]

    await eventually(counted, lambda seen: seen == (3, 1))


async def test_while_inventory_is_away_callers_are_told_so_and_later_served_again(
    front: str, tmp_path: Path
) -> None:
    """UNAVAILABLE with RetryInfo within the deadline; a service that comes back is found again."""
    async with AsyncExitStack() as stack:
        rig = await open_rig(stack, tmp_path, front)
        terms = sale_terms()
        sku = rig.services.inventory.put(terms)
        token = await rig.token(sku, "buyer")
        await rig.services.stop()

        async def reason_while_away() -> str | None:
            error = await failure(rig.buy(sku, "buyer", token=token, request_id="r"))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "RetryInfo" in details(error)
            return reason_of(error)

        # A call that crosses the closing of the connection may have had its effect.
        await eventually(reason_while_away, lambda reason: reason == "DEPENDENCY_UNAVAILABLE")
        services = await stack.enter_async_context(running_services(rig.services.port))
        services.inventory.put(terms)

        async def outcome() -> int | None:
            try:
                # A new caller each time: a caller who repeats a call so often is slowed down.
                return (await rig.buy(sku, new_id("late"))).outcome
            except grpc.aio.AioRpcError:
                return None

        await eventually(outcome, lambda seen: seen == RESERVED)


async def test_stopping_finishes_what_is_under_way(rig: GatewayRig) -> None:
    """An attempt that inventory has not answered yet is answered before the port closes."""
    inventory = rig.services.inventory
    sku = inventory.put(sale_terms())
    token = await rig.token(sku, "buyer")
    inventory.open.clear()
    attempt = asyncio.ensure_future(rig.buy(sku, "buyer", token=token))
    await inventory.batch_arrived.wait()
    stopping = asyncio.create_task(rig.stop.aclose())
    refused = await failure(rig.buy(sku, "new", token=token))
    # grpc.aio itself cancels a call that crosses its GOAWAY.
    assert refused.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    inventory.open.set()
    assert (await attempt).outcome == RESERVED
    await stopping


def test_bytes_that_are_passed_through_mean_the_same_on_both_sides() -> None:
    """The gateway answers with messages of other services as they are: the fields must agree."""
    shapes = [
        {
            field.number: (field.name, field.type, field.message_type, field.enum_type)
            for field in kind.fields
        }
        for kind in (
            gateway_pb2.PurchaseResponse.DESCRIPTOR,
            inventory_pb2.ReserveResult.DESCRIPTOR,
        )
    ]
    assert shapes[0] == shapes[1]
    order = gateway_pb2.GatewayServiceGetOrderResponse.DESCRIPTOR.fields_by_name["order"]
    assert order.number == 1
    assert order.message_type is order_pb2.Order.DESCRIPTOR
