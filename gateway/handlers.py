"""The batched methods: each handler sees a batch of calls, and no transport.

Whatever can be answered at once is; the rest goes into the batchers of inventory and order, which
answer the calls themselves. A call that needs something that is not known yet (a sale just
created, a key just rotated) is tried a second time once that has been asked for.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message
from structlog.contextvars import bound_contextvars

from gateway.admission import Admission, Moment
from gateway.front.call import BatchedMethod, Call
from gateway.front.call_spans import failing_span
from gateway.issue.issuer import TokenIssuer
from gateway.metrics import count_local_refusals
from gateway.orders import Orders, Poll
from gateway.reservations import Attempt, Reservations, answer
from gateway.rules_feed import RulesFeed
from gateway.sales import Sales
from gateway.service_name import SERVICE
from seckill.errors import InvalidField, KillSwitchOn, SaleNotFound, SeckillError
from seckill.runtime import request_ids, tracing
from seckill.runtime.faults import fault_of
from seckill.runtime.identity import IdentityKeyUnknown
from seckill.runtime.jwks import KeySet
from seckill.runtime.purchase_tokens import PurchaseTokens
from seckill.runtime.sale_view import SaleView
from seckill.v1 import gateway_pb2
from seckill.validation import PRINTABLE, REQUEST_ID_MAX, Violations

MessageT = TypeVar("MessageT", bound=Message)
Step = Callable[[Call, Moment], None]


class _SaleUnknown(Exception):
    """The sale is not known here; inventory may know it."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class BatchedMethods:
    """Purchase, IssuePurchaseToken, GetOrder and GetSale."""

    def __init__(
        self,
        *,
        admission: Admission,
        keys: KeySet,
        tokens: PurchaseTokens,
        sales: Sales,
        rules: RulesFeed,
        reservations: Reservations,
        orders: Orders,
        issuer: TokenIssuer,
    ) -> None:
        """`rules`: those in force."""
        self._admission = admission
        self._keys = keys
        self._tokens = tokens
        self._sales = sales
        self._rules = rules
        self._reservations = reservations
        self._orders = orders
        self._issuer = issuer

    def methods(self) -> tuple[BatchedMethod, ...]:
        """What a front serves."""
        return (
            BatchedMethod(f"/{SERVICE}/Purchase", self.purchase),
            BatchedMethod(f"/{SERVICE}/IssuePurchaseToken", self.issue_purchase_token),
            # What has been bought is to be seen and paid for, whatever crowd still tries to buy.
            BatchedMethod(f"/{SERVICE}/GetOrder", self.get_order, urgent=True),
            BatchedMethod(f"/{SERVICE}/GetSale", self.get_sale),
        )

    async def purchase(self, calls: Sequence[Call]) -> None:
        """Admit or refuse each attempt, and reserve for those admitted."""
        refused: Counter[int] = Counter()

        def attempt(call: Call, moment: Moment) -> None:
            outcome = self._purchase(call, moment)
            if outcome is not None:
                answer(call, outcome)
                refused[outcome] += 1

        await self._for_each(calls, attempt, then=self._reservations.flush)
        if refused:
            count_local_refusals(refused)

    def _purchase(self, call: Call, moment: Moment) -> int | None:
        """One attempt: an outcome, or None if the reservation will answer."""
        if self._sales.halted:
            raise KillSwitchOn
        request = _parse(gateway_pb2.PurchaseRequest, call.payload)
        sku, request_id, quantity = request.sku, request.request_id, request.quantity or 1
        sale = self._sales.get(sku)
        if (
            sale is None
            or not 1 <= quantity <= sale.limit
            or len(request_id) > REQUEST_ID_MAX
            or PRINTABLE.fullmatch(request_id) is None
        ):
            self._explain(request, sale, call, moment)
        # The holder is looked at twice: without holders every caller gets the refusal, before any
        # bucket or signature is paid for; with holders only a caller who is proven to be none.
        refusal = None
        if sale.holders is not None and self._sales.is_fresh(moment.monotonic_s):
            refusal = sale.refusal(moment.now_s)
            if refusal is not None and not sale.holders:
                return refusal
        self._admission.charge_client(call, moment)
        user_id = self._admission.authenticate(call.authorization, moment).user_id
        if refusal is not None and sale.holders is not None and user_id not in sale.holders:
            return refusal
        now_ms = int(moment.now_s * 1000)
        self._tokens.check(request.purchase_token, user_id, sku, now_ms=now_ms)
        attempt = Attempt(call, user_id=user_id, request_id=request_id, quantity=quantity)
        self._reservations.add(sku, attempt)
        return None

    def _explain(
        self,
        request: gateway_pb2.PurchaseRequest,
        sale: SaleView | None,
        call: Call,
        moment: Moment,
    ) -> NoReturn:
        """Raises InvalidField naming what is wrong with an attempt, or, charged, _SaleUnknown."""
        violations = Violations()
        violations.sku("sku", request.sku)
        violations.request_id("request_id", request.request_id)
        if sale is not None:
            violations.between("quantity", request.quantity, 0, sale.limit)
        violations.check()
        self._admission.charge_client(call, moment)
        raise _SaleUnknown(request.sku)

    async def issue_purchase_token(self, calls: Sequence[Call]) -> None:
        """Sign a purchase token for each buyer."""
        await self._for_each(calls, self._issue, then=self._issuer.flush)

    def _issue(self, call: Call, moment: Moment) -> None:
        if self._sales.halted:
            raise KillSwitchOn
        request = _parse(gateway_pb2.IssuePurchaseTokenRequest, call.payload)
        sku = request.sku
        known = self._sales.get(sku) is not None
        if not known:
            _check_sku(sku)
        self._admission.charge_client(call, moment)
        if not known:
            raise _SaleUnknown(sku)
        buyer = self._admission.authenticate(call.authorization, moment)
        policy = self._rules.rules.policy(sku)
        self._issuer.add(call, buyer, request, policy=policy, moment=moment)

    async def get_order(self, calls: Sequence[Call]) -> None:
        """Read each buyer's order."""
        await self._for_each(calls, self._poll, then=self._orders.flush)

    def _poll(self, call: Call, moment: Moment) -> None:
        request = _parse(gateway_pb2.GatewayServiceGetOrderRequest, call.payload)
        violations = Violations()
        violations.order_no("order_no", request.order_no)
        violations.check()
        self._admission.charge_order_call(call, moment)
        user_id = self._admission.authenticate(call.authorization, moment).user_id
        self._orders.add(Poll(call, order_no=request.order_no, user_id=user_id))

    async def get_sale(self, calls: Sequence[Call]) -> None:
        """Show each caller a sale; one question to inventory a sku and second."""
        asking: dict[str, list[Call]] = {}

        def ask(call: Call, moment: Moment) -> None:
            request = _parse(gateway_pb2.GatewayServiceGetSaleRequest, call.payload)
            _check_sku(request.sku)
            self._admission.charge_client(call, moment)
            asking.setdefault(request.sku, []).append(call)

        await self._for_each(calls, ask)
        # Together: what one sku waits for is not waited for by the others.
        await _all(_answer_all(askers, self._sales, sku) for sku, askers in asking.items())

    async def _for_each(
        self, calls: Sequence[Call], step: Step, then: Callable[[], None] | None = None
    ) -> None:
        """Run `step` on each call, answer with what it raises, then `then`.

        Calls that need an unknown sale or key wait until it has been asked for; the others do not
        wait for them.
        """
        moment = Moment.read()
        of_unknown_sku: dict[str, list[Call]] = {}
        of_unknown_key: list[Call] = []
        for call in calls:
            try:
                step(call, moment)
            except SeckillError as error:
                if isinstance(error, IdentityKeyUnknown):
                    of_unknown_key.append(call)
                else:
                    call.fail(error)
            except _SaleUnknown as unknown:
                of_unknown_sku.setdefault(unknown.sku, []).append(call)
            except Exception as error:  # noqa: BLE001 - fails this call, not its batch
                _fail_unexpectedly(call, error)
        if then is not None:
            then()
        if of_unknown_key:
            await self._keys.reload_for_unknown_key()
            _retry_once(of_unknown_key, step, then)
        if not of_unknown_sku:
            return
        # Together: what one sku waits for is not waited for by the others.
        await _all(
            self._find_and_retry(sku, waiting, step, then)
            for sku, waiting in of_unknown_sku.items()
        )

    async def _find_and_retry(
        self, sku: str, calls: Sequence[Call], step: Step, then: Callable[[], None] | None
    ) -> None:
        try:
            await self._sales.find(sku)
        except SeckillError as error:
            for call in calls:
                call.fail(error)
        except Exception as error:  # noqa: BLE001 - fails the calls for this sku alone
            fault = fault_of(error)
            for call in calls:
                call.fail(fault)
        else:
            _retry_once(calls, step, then)


def _fail_unexpectedly(call: Call, error: Exception) -> None:
    """Fail a call with what no code expects, under its own id."""
    request_id = call.request_id() or request_ids.new()
    with bound_contextvars(request_id=request_id), tracing.below(failing_span(call, request_id)):
        call.fail(fault_of(error))


def _retry_once(calls: Sequence[Call], step: Step, then: Callable[[], None] | None) -> None:
    """The second and last try."""
    moment = Moment.read(second_try=True)
    for call in calls:
        if call.cancelled:
            continue
        try:
            step(call, moment)
        except SeckillError as error:
            call.fail(error)
        except _SaleUnknown as unknown:
            call.fail(SaleNotFound(metadata={"sku": unknown.sku}))
        except Exception as error:  # noqa: BLE001 - fails this call, not its batch
            _fail_unexpectedly(call, error)
    if then is not None:
        then()


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Wait for all of them at once. Raises the first fault, once all have ended."""
    for fault in await asyncio.gather(*steps, return_exceptions=True):
        if fault is not None:
            raise fault


async def _answer_all(calls: Sequence[Call], sales: Sales, sku: str) -> None:
    try:
        payload = await sales.read(sku)
    except Exception as error:  # noqa: BLE001 - fails the calls for this sku alone
        fault = fault_of(error)
        for call in calls:
            call.fail(fault)
        return
    for call in calls:
        call.respond(payload)


def _parse(message_type: type[MessageT], payload: bytes) -> MessageT:
    try:
        return message_type.FromString(payload)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.name
        raise InvalidField([("request", f"is not a serialized {name}")]) from error


def _check_sku(sku: str) -> None:
    violations = Violations()
    violations.sku("sku", sku)
    violations.check()
