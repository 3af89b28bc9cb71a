"""The client for threads: the twin of `seckill.client.aio`, step for step."""

import time
from collections.abc import Callable, Sequence
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
Identity: TypeAlias = str | Callable[[], str]


class SyncSeckillClient:
    """As SeckillClient, for code without asyncio; safe to share between threads.

    with SyncSeckillClient("gateway:50051", identity=token) as client:
        purchase = client.buy("phone")
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        identity: Identity | None = None,
        policy: RetryPolicy = DEFAULT_POLICY,
        on_call: OnCall | None = None,
        solver: challenges.SyncSolver | None = None,
        options: Sequence[Option] = (),
    ) -> None:
        """As SeckillClient's; `identity` and `solver` are plain functions, if functions."""
        arguments = channel_options(options)
        self._channel = (
            grpc.insecure_channel(target, options=arguments)
            if credentials is None
            else grpc.secure_channel(target, credentials, options=arguments)
        )
        self._stub = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._identity = identity
        self._policy = policy
        self._on_call = on_call
        self._solver = solver

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, also that of clients made by `acting_for`."""
        self._channel.close()

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

    def buy(
        self, sku: str, quantity: int = 1, *, request_id: str = "", timeout_s: float = 15.0
    ) -> Purchase:
        """Buy units of a sale; see SeckillClient.buy."""
        return self._run(
            flows.buy(self._deadline(timeout_s), sku, quantity, request_id or new_request_id())
        )

    def get_order(self, order_no: str, *, timeout_s: float = 10.0) -> order_pb2.Order:
        """Return one of the buyer's orders; see SeckillClient.get_order."""
        return self._run(flows.get_order(self._deadline(timeout_s), order_no))

    def get_aged_order(self, order_no: str, *, timeout_s: float = 10.0) -> AgedOrder:
        """Return one of the buyer's orders with its age; see SeckillClient.get_aged_order."""
        return self._run(flows.get_aged_order(self._deadline(timeout_s), order_no))

    def wait(
        self, order_no: str, until: flows.OrderTest = settled, *, timeout_s: float = 60.0
    ) -> order_pb2.Order:
        """Return one of the buyer's orders once `until` holds of it; see SeckillClient.wait."""
        return self._run(flows.wait(self._deadline(timeout_s), order_no, until))

    def cancel(self, order_no: str, *, timeout_s: float = 10.0) -> order_pb2.Order:
        """Give one of the buyer's unpaid orders up; see SeckillClient.cancel."""
        return self._run(flows.cancel(self._deadline(timeout_s), order_no))

    def pay(
        self,
        order_no: str,
        *,
        payment_id: str,
        amount: sale_pb2.Money,
        timeout_s: float = 10.0,
    ) -> order_pb2.Order:
        """Pay one of the buyer's orders in the sandbox; see SeckillClient.pay."""
        return self._run(flows.pay(self._deadline(timeout_s), order_no, payment_id, amount))

    def sale(self, sku: str, *, timeout_s: float = 10.0) -> sale_pb2.Sale:
        """Return one sale; see SeckillClient.sale."""
        return self._run(flows.sale(self._deadline(timeout_s), sku))

    def sales(self, *, timeout_s: float = 10.0) -> list[sale_pb2.Sale]:
        """Return all sales on offer, ordered by sku; see SeckillClient.sales."""
        return self._run(flows.sales(self._deadline(timeout_s)))

    def _deadline(self, timeout_s: float) -> Deadline:
        return deadline(self._policy, timeout_s)

    def _run(self, flow: flows.Flow[T]) -> T:
        """Drive a flow to its end."""
        reply: object = None
        while True:
            try:
                step = flows.resume(flow, reply)
            except StopIteration as done:
                return cast("T", done.value)
            try:
                reply = self._perform(step)
            except CallFailed as failure:
                reply = failure

    def _perform(self, step: flows.Step) -> object:
        match step:
            case flows.Pause():
                time.sleep(step.seconds)
                return None
            case flows.Watch():
                return self._watch(step)
            case flows.Solve():
                return challenges.solve(
                    step.challenge, solver=self._solver, timeout_s=step.timeout_s
                )
            case flows.Ask():
                return self._ask(step)

    def _ask(self, step: flows.Ask) -> object:
        metadata = (*self._who(step.as_buyer), *step.metadata)
        with recorded(step.method, step.request, self._on_call) as call:
            method: Any = getattr(self._stub, step.method)
            call.response = method(step.request, metadata=metadata, timeout=step.timeout_s)
        return call.response

    def _watch(self, step: flows.Watch) -> order_pb2.Order | None:
        metadata = self._who(as_buyer=True)
        with recorded("WatchOrder", step.request, self._on_call) as call:
            stream = self._stub.WatchOrder(step.request, metadata=metadata, timeout=step.timeout_s)
            try:
                for answer in stream:
                    call.response = answer
                    if step.until(answer.order):
                        return answer.order
            finally:
                stream.cancel()
        return None

    def _who(self, as_buyer: bool) -> tuple[tuple[str, str], ...]:
        if not as_buyer or self._identity is None:
            return ()
        identity = self._identity if isinstance(self._identity, str) else self._identity()
        return (authorization(identity),)
