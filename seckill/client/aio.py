"""The client for asyncio."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeAlias, TypeVar, cast

import grpc

from seckill.client import challenges, flows
from seckill.client.errors import CallFailed
from seckill.client.results import AgedOrder, Purchase, settled
from seckill.client.retry import Deadline, RetryPolicy
from seckill.client.transport import (
    DEFAULT_POLICY,
    OnCall,
    Option,
    authorization,
    channel_options,
    deadline,
    new_request_id,
    recorded,
)
from seckill.v1 import gateway_pb2_grpc, order_pb2, sale_pb2

T = TypeVar("T")
# A token, or what gives one: it is asked before each call of the buyer.
Identity: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]


class SeckillClient:
    """Buys from a mesh, through its gateway or its edge.

        async with SeckillClient("gateway:50051", identity=token) as client:
            purchase = await client.buy("phone")
            if purchase.reserved:
                order = await client.wait(purchase.order_no)

    Each call repeats what may be answered later, by the pause that the reply names, until its
    `timeout_s` is over. One client is for any number of tasks; `acting_for` gives one for another
    buyer over the same connection.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        identity: Identity | None = None,
        policy: RetryPolicy = DEFAULT_POLICY,
        on_call: OnCall | None = None,
        solver: challenges.Solver | None = None,
        options: Sequence[Option] = (),
    ) -> None:
        """Make a client; it connects on its first call.

        Args:
            target: host:port, or another gRPC target; several addresses are called in turn.
            credentials: TLS, e.g. `grpc.ssl_channel_credentials()`; None is plaintext.
            identity: the buyer's JWT, or a function (plain or async) that returns a valid one.
            policy: how calls are repeated.
            on_call: told of each call once it has ended; must not raise.
            solver: solves the challenges of sales that ask doubtful buyers for one: given a
                Challenge it returns the solution (plain or async), None if it has none; a plain one
                must not block. None solves proofs of work in a thread, and no others.
            options: further gRPC channel options.
        """
        arguments = channel_options(options)
        self._channel = (
            grpc.aio.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=arguments)
        )
        self._stub = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._identity = identity
        self._policy = policy
        self._on_call = on_call
        self._solver = solver

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, also that of clients made by `acting_for`."""
        await self._channel.close()

    def acting_for(
        self,
        identity: Identity,
        *,
        policy: RetryPolicy | None = None,
        on_call: OnCall | None = None,
    ) -> Self:
        """Return a client for another buyer over the same connection; None keeps this one's."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._identity = identity
        other._policy = policy or self._policy
        other._on_call = on_call or self._on_call
        return other

    async def buy(
        self, sku: str, quantity: int = 1, *, request_id: str = "", timeout_s: float = 15.0
    ) -> Purchase:
        """Buy units of a sale.

        Args:
            sku: of the sale.
            quantity: units, 1 to the sale's purchase limit.
            request_id: names the attempt, 1 to 64 printable ASCII characters; a new one if empty.
                The same id gets the same answer, also after a timeout or a restart.
            timeout_s: longest time, all repetitions included.

        Returns:
            The answer. Sold out, not started and the like are outcomes, not failures.

        Raises:
            OutcomeUnknown: a purchase was sent and its answer lost; buy again with its request_id.
            CallFailed: another failure; nothing was bought.
        """
        return await self._run(
            flows.buy(self._deadline(timeout_s), sku, quantity, request_id or new_request_id())
        )

    async def get_order(self, order_no: str, *, timeout_s: float = 10.0) -> order_pb2.Order:
        """Return one of the buyer's orders; one that is still being written is waited for.

        Raises:
            NotFound: no order of that number.
            CallFailed: another failure.
        """
        return await self._run(flows.get_order(self._deadline(timeout_s), order_no))

    async def get_aged_order(self, order_no: str, *, timeout_s: float = 10.0) -> AgedOrder:
        """Return one of the buyer's orders with the greatest possible age of what is told of it.

        Raises:
            What `get_order` raises.
        """
        return await self._run(flows.get_aged_order(self._deadline(timeout_s), order_no))

    async def wait(
        self, order_no: str, until: flows.OrderTest = settled, *, timeout_s: float = 60.0
    ) -> order_pb2.Order:
        """Return one of the buyer's orders once `until` holds of it, or it can change no more.

        Args:
            order_no: the order's number.
            until: `settled` (paid, cancelled, …), `visible` (it can be read), or any other test.
            timeout_s: longest time.

        Raises:
            TryLater: `until` did not hold in time.
            CallFailed: another failure.
        """
        return await self._run(flows.wait(self._deadline(timeout_s), order_no, until))

    async def cancel(self, order_no: str, *, timeout_s: float = 10.0) -> order_pb2.Order:
        """Give one of the buyer's unpaid orders up; return it. Repeating it changes nothing.

        Raises:
            StateConflict: it has been paid.
            CallFailed: another failure.
        """
        return await self._run(flows.cancel(self._deadline(timeout_s), order_no))

    async def pay(
        self,
        order_no: str,
        *,
        payment_id: str,
        amount: sale_pb2.Money,
        timeout_s: float = 10.0,
    ) -> order_pb2.Order:
        """Pay one of the buyer's orders in the sandbox, where no money moves; return it.

        Raises:
            StateConflict: the order cannot be paid any more, or costs another amount.
            CallFailed: another failure.
        """
        return await self._run(flows.pay(self._deadline(timeout_s), order_no, payment_id, amount))

    async def sale(self, sku: str, *, timeout_s: float = 10.0) -> sale_pb2.Sale:
        """Return one sale, its remaining units up to a second old.

        Raises:
            NotFound: no sale of that sku.
            CallFailed: another failure.
        """
        return await self._run(flows.sale(self._deadline(timeout_s), sku))

    async def sales(self, *, timeout_s: float = 10.0) -> list[sale_pb2.Sale]:
        """Return all sales on offer, ordered by sku. Raises CallFailed."""
        return await self._run(flows.sales(self._deadline(timeout_s)))

    def _deadline(self, timeout_s: float) -> Deadline:
        return deadline(self._policy, timeout_s)

    async def _run(self, flow: flows.Flow[T]) -> T:
        """Drive a flow to its end."""
        reply: object = None
        while True:
            try:
                step = flows.resume(flow, reply)
            except StopIteration as done:
                return cast("T", done.value)
            try:
                reply = await self._perform(step)
            except CallFailed as failure:
                reply = failure

    async def _perform(self, step: flows.Step) -> object:
        match step:
            case flows.Pause():
                await asyncio.sleep(step.seconds)
                return None
            case flows.Watch():
                return await self._watch(step)
            case flows.Solve():
                return await challenges.solve_aio(
                    step.challenge, solver=self._solver, timeout_s=step.timeout_s
                )
            case flows.Ask():
                return await self._ask(step)

    async def _ask(self, step: flows.Ask) -> object:
        metadata = (*await self._who(step.as_buyer), *step.metadata)
        with recorded(step.method, step.request, self._on_call) as call:
            method: Any = getattr(self._stub, step.method)
            call.response = await method(step.request, metadata=metadata, timeout=step.timeout_s)
        return call.response

    async def _watch(self, step: flows.Watch) -> order_pb2.Order | None:
        metadata = await self._who(as_buyer=True)
        with recorded("WatchOrder", step.request, self._on_call) as call:
            stream = self._stub.WatchOrder(step.request, metadata=metadata, timeout=step.timeout_s)
            try:
                async for answer in stream:
                    call.response = answer
                    if step.until(answer.order):
                        return answer.order
            finally:
                stream.cancel()
        return None

    async def _who(self, as_buyer: bool) -> tuple[tuple[str, str], ...]:
        if not as_buyer or self._identity is None:
            return ()
        identity = self._identity if isinstance(self._identity, str) else self._identity()
        if inspect.isawaitable(identity):
            identity = await identity
        return (authorization(identity),)
